"""Where in the interpreter's own files something is written."""

from __future__ import annotations

import inspect
import platform
import re
import sys
import sysconfig
import tokenize
from functools import cache
from pathlib import Path
from types import CodeType
from types import ModuleType
from typing import Any

LIBRARY = Path(sysconfig.get_path("stdlib"))
REPOSITORY = "https://github.com/python/cpython/blob"
_CLASS = re.compile(r"^\s*class (\w+)\b")


def source_of(module: ModuleType) -> str | None:
    """Return the module's file, as a path below the standard library."""
    return _inside(getattr(module, "__file__", None) or "")


def read_source(source: str) -> str:
    """Return the text of a file of the standard library."""
    with tokenize.open(LIBRARY / source) as file:
        return file.read().expandtabs()


def repository_url(source: str, line: int | None = None) -> str:
    """Return where CPython's repository shows the file, for the version that runs."""
    place = f"#L{line}" if line else ""
    return f"{REPOSITORY}/v{platform.python_version().rstrip('+')}/Lib/{source}{place}"


def place_of(thing: Any) -> tuple[str | None, int | None]:
    """Return file and line of a class or a function, or nothing for what is not in Python."""
    if inspect.isclass(thing):
        return _place_of_class(thing)
    code = getattr(inspect.unwrap(thing), "__code__", None)
    source = _file_of(code) if code else None
    return (source, code.co_firstlineno) if code and source else (None, None)


def _file_of(code: CodeType) -> str | None:
    # The modules needed at start are frozen into the interpreter and name no file.
    if code.co_filename.startswith("<frozen "):
        module = sys.modules.get(code.co_filename[8:-1])
        return source_of(module) if module else None
    return _inside(code.co_filename)


def _place_of_class(cls: type) -> tuple[str | None, int | None]:
    module = sys.modules.get(cls.__module__)
    source = source_of(module) if module else None
    # collections.abc and others say that they define what another file does; its methods know.
    functions = (f for _, f in sorted(vars(cls).items()) if inspect.isfunction(f))
    method = next(functions, None)
    for file in (source, _file_of(method.__code__) if method else None):
        line = _class_lines(file).get(cls.__name__) if file else None
        if line:
            return file, line
    return None, None


def line_of(function: Any) -> int | None:
    """Return the line on which a function begins."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_firstlineno if code and not code.co_filename.startswith("<string") else None


def _inside(path: str) -> str | None:
    file = Path(path)
    if file.suffix != ".py" or not file.is_relative_to(LIBRARY):
        return None
    return file.relative_to(LIBRARY).as_posix()


@cache
def _class_lines(source: str) -> dict[str, int]:
    """Return the line of each class of a file; the first, where one is written twice."""
    lines: dict[str, int] = {}
    for number, line in enumerate(read_source(source).split("\n"), 1):
        match = _CLASS.match(line)
        if match:
            lines.setdefault(match[1], number)
    return lines
