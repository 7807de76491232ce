"""Under which name another process finds an app, and whether what it found there is the same."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import typing as t
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from flask import Flask

from .errors import ConfigError
from .site import Site

#: A digest for everything that has to be alike, by what it is called.
Likeness = dict[str, str]

_PLAIN = (str, bytes, int, float, timedelta, type(None))


def name_of(app: Flask, setting: str | None) -> str:
    """Return the import string of an app, as ``FLASK_APP`` has it.

    :param setting: ``PRERENDER_APP``; without one, ``FLASK_APP``, else where the app was made.
    :raises ConfigError: there is no such module or file.
    """
    said = setting or os.environ.get("FLASK_APP")
    name = said or app.import_name
    if name == "__main__":
        name = str(getattr(sys.modules["__main__"], "__file__", None) or "")
        name = str(Path(name).absolute()) if name else "__main__"
    place = re.split(r":(?![\\/])", name, maxsplit=1)[0]
    if not _is_there(place):
        source = "PRERENDER_APP" if setting else "FLASK_APP" if said else "the app's import name"
        raise ConfigError(
            f"PRERENDER_REGENERATE is 'process', and that process cannot import the app: there is "
            f"no module or file {place!r} ({source}). Set PRERENDER_APP to where the app is, such "
            "as 'package.module:app' or 'package.module:create_app()'."
        )
    return name


def _is_there(place: str) -> bool:
    if place.endswith(".py") or os.sep in place:
        return Path(place).exists()
    path = Path(*place.split("."))
    if path.with_suffix(".py").is_file() or path.is_dir():
        return True
    try:
        return place in sys.modules or find_spec(place) is not None
    except (ImportError, ValueError):
        return False


def likeness(site: Site) -> Likeness:
    """Return what two processes must have in common for each to make the other's pages: the
    configuration, as far as it is plain values, the routes, and the directory."""
    app = site.app
    found = {
        f"app.config[{key!r}]": _digest(value)
        for key, value in app.config.items()
        if _is_plain(value)
    }
    routes = sorted(f"{rule.rule} {rule.endpoint} {rule.host}" for rule in app.url_map.iter_rules())
    pages = (str(site.path), site.style, site.base_url, site.script_name)
    found |= {"name": _digest(app.name), "routes": _digest(routes), "pages": _digest(pages)}
    found["store"] = _digest((type(site.store).__qualname__, type(site.coordination).__qualname__))
    return found


def differences(ours: Likeness, theirs: Likeness) -> list[str]:
    """Return the names of what differs."""
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def _is_plain(value: t.Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _digest(value: t.Any) -> str:
    """Return a text that tells nothing of the value: it may be a secret."""
    return hashlib.sha256(_ordered(value).encode()).hexdigest()


def _ordered(value: t.Any) -> str:
    """Return a representation that does not depend on the order of sets and dictionaries."""
    if isinstance(value, dict):
        return repr(sorted((_ordered(key), _ordered(one)) for key, one in value.items()))
    if isinstance(value, set | frozenset):
        return repr(sorted(map(_ordered, value)))
    if isinstance(value, list | tuple):
        return repr([_ordered(one) for one in value])
    return repr(value)
