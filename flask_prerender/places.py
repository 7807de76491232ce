"""Where the pages of an app are: its directory, and where the last build went."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from flask import Flask

from .complaints import Complaints
from .disk import failures
from .disk import write_whole
from .errors import ConfigError
from .errors import StoreError
from .settings import Settings

_LAST_BUILD = "last-build.json"


def directory(app: Flask, settings: Settings) -> Path:
    path = (Path(app.instance_path) / settings.path).resolve()
    refuse_static(app, path, "PRERENDER_PATH")
    return path


def refuse_static(app: Flask, path: Path, name: str) -> None:
    """
    :param name: the setting or option that gave the directory.
    :raises ConfigError: it is one from which Flask serves files.
    """
    path = path.resolve()
    static = app.static_folder and Path(app.static_folder).resolve()
    if static and (path == static or static in path.parents):
        raise ConfigError(
            f"{name} is {path}, inside the static folder {static}: Flask would serve the "
            "store's own files to everybody. Choose a directory outside of it."
        )


def is_read_only(path: Path, complain: Complaints) -> bool:
    """Whether this process cannot write to a directory, as on a read-only disk, or where another
    user built the pages; if so, it is told."""
    nearest = path
    # Where it may not be looked at, either: no error. An absent one would be made in its parent.
    while not os.path.exists(nearest) and nearest != nearest.parent:  # noqa: PTH110
        nearest = nearest.parent
    if os.access(nearest, os.W_OK):
        return False
    text = "%s cannot be written: pages are served, and made new in this process's memory only."
    complain("read-only", text, path)
    return True


def write_last_build(path: Path, output: Path, style: str) -> None:
    """
    :raises StoreError: it cannot be written.
    """
    target = path / _LAST_BUILD
    place = str(output)
    with suppress(ValueError):  # another drive, on Windows
        # Relative, so that a directory which was copied or moved whole still finds itself.
        place = os.path.relpath(output, path)
    facts = json.dumps({"output": place, "style": style}) + "\n"
    with failures("write", target):
        path.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_bytes() != facts.encode():
            write_whole(path, target, facts.encode())


def read_last_build(path: Path, known: int) -> tuple[int, Path, str] | None:
    """Return when it was written, where the build went, and in which style; ``None`` when there was
    none, or it was written at the moment `known`.

    :param known: nanoseconds, as the first of what is returned.
    :raises StoreError: it cannot be read.
    """
    target = path / _LAST_BUILD
    try:
        mtime = target.stat().st_mtime_ns
        if mtime == known:
            return None
        facts = json.loads(target.read_text())
        return mtime, (path / facts["output"]).resolve(), facts["style"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{target} cannot be read: {error}") from error
