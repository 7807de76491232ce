"""Whose pages a directory has: the name of one app, in a file beside them."""

from __future__ import annotations

import json
from pathlib import Path

from .disk import failures
from .disk import write_whole

_FILE = "owner.json"


def owner_of(root: Path) -> str | None:
    """Return the name of the app whose pages are below `root`, or ``None`` when nobody has said.

    :raises StoreError: the file cannot be read.
    """
    path = root / _FILE
    with failures("read", path):
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["app"])
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None


def claim(root: Path, name: str) -> str:
    """Write down that the pages below `root` are those of an app, unless they are another's, and
    return the name of the app that has them.

    :raises StoreError: the file cannot be read or written.
    """
    known = owner_of(root)
    if known is not None:
        return known
    path = root / _FILE
    with failures("write", path):
        root.mkdir(parents=True, exist_ok=True)
        write_whole(root, path, (json.dumps({"app": name}) + "\n").encode())
    return owner_of(root) or name
