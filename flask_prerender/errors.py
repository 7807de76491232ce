"""Every error that Flask-Prerender raises.

::

    PrerenderError
    ├── ConfigError          a setting or an option is wrong
    │   └── MarkError        a mark on a view is wrong
    ├── RouteError           a marked route cannot give its URLs
    │   └── TagsError        the ``tags`` of a mark failed
    ├── RenderError          a URL could not be rendered
    ├── DataError            the value of a function could not be had in time, or kept
    └── StoreError           the store could not read or write
        ├── FencedError      somebody who began later has stored the page already
        ├── BudgetError      pages of first visits have no room for it
        ├── BlobMissingError a body that should be stored already is not
        └── CollisionError   two URLs would share one file
"""

from __future__ import annotations

import difflib
import traceback
import typing as t
from collections.abc import Iterable

import click


class PrerenderError(Exception):
    """The base of every error of this package."""


class ConfigError(PrerenderError, click.ClickException):
    """A ``PRERENDER_`` setting is unknown or has a value that cannot be used."""

    # Raised while a command imports the app, it ends the command, and says where it was raised.
    exit_code = 2

    def show(self, file: t.IO[t.Any] | None = None) -> None:
        traceback.print_exception(self, file=file)


class MarkError(ConfigError, TypeError):
    """A mark was given an option that does not exist, or a value that cannot be used."""


class RouteError(PrerenderError):
    """A marked route cannot say which URLs it has."""


class TagsError(RouteError):
    """The ``tags`` of a mark raised, or gave something else than a list of texts."""


class RenderError(PrerenderError):
    """A URL could not be rendered: the view raised, or took too long."""


class DataError(PrerenderError):
    """The value of a function could not be had in time, or cannot be kept."""


class StoreError(PrerenderError):
    """The store could not read or write; the message names the file and the system's reason."""


class BlobMissingError(StoreError):
    """A page names a body that was neither handed over nor stored before."""


class BudgetError(StoreError):
    """A page of a first visit is larger than all of them together may be."""


class CollisionError(StoreError):
    """Two URLs would be written to one file.

    :ivar owner: the key of the page that has the file already.
    """

    def __init__(self, key: str, file: str, owner: str) -> None:
        super().__init__(
            f"{key} and {owner} would both be written to {file}. "
            "Give one of the routes another URL, unmark one of them with @app.prerender(False), "
            'or build with the other URL style (PRERENDER_STYLE = "file" or "dir_index").'
        )
        self.key = key
        self.file = file
        self.owner = owner


class FencedError(StoreError):
    """A page comes too late: one whose work began later is stored already."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name most like `name`, or ``""``."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""
