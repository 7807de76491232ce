"""Groups of routes that are marked together: a blueprint, or endpoints that a pattern matches."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from fnmatch import fnmatchcase

from flask import Blueprint
from flask import Flask

from .errors import MarkError
from .options import normal_options

#: A blueprint or an endpoint pattern, and the options of its mark.
Group = tuple[str | Blueprint, Mapping[str, t.Any] | bool]


def group(target: str | Blueprint, options: Mapping[str, t.Any] | bool) -> Group:
    """Return the group of a blueprint, or of the endpoints that a pattern matches."""
    if isinstance(target, Blueprint):
        return target, normal_options(options, f"the blueprint {target.name!r}")
    if not isinstance(target, str):
        raise MarkError(f"mark_all() takes a blueprint or an endpoint pattern, not {target!r}.")
    return target, normal_options(options, f"mark_all({target!r})")


def is_in(app: Flask, endpoint: str, target: str | Blueprint) -> bool:
    """Whether an endpoint of an app belongs to a group."""
    if isinstance(target, str):
        return fnmatchcase(endpoint, target)
    # Under whatever names it is registered, and within whatever other blueprints.
    names = endpoint.split(".")[:-1]
    blueprints = app.blueprints
    return any(blueprints.get(".".join(names[:n])) is target for n in range(1, len(names) + 1))
