"""What a class is made of: bases, members, what it inherits."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from types import FunctionType
from typing import Any

from .catalogue import Key
from .catalogue import Member
from .signatures import shown
from .signatures import signature_of
from .signatures import UNKNOWN
from .sources import line_of
from .texts import doc_of
from .texts import spoken_signature

#: Names that the interpreter writes into a class, and nobody who made it.
_UNSAID = frozenset(["__doc__", "__module__", "__weakref__", "__dict__", "__slots__", "__new__"])


def _home(cls: type, homes: dict[int, Key]) -> Key:
    return homes.get(id(cls), (cls.__module__, cls.__qualname__))


def bases_of(cls: type, homes: dict[int, Key]) -> tuple[Key, ...]:
    """Return the homes of the direct bases."""
    return tuple(_home(base, homes) for base in cls.__bases__)


def special_of(cls: type) -> tuple[str, ...]:
    """Return the names of the special methods that the class defines itself."""
    return tuple(
        name
        for name, value in sorted(vars(cls).items())
        if name.startswith("__") and callable(value) and name not in _UNSAID
    )


def inherited_by(cls: type, homes: dict[int, Key]) -> Iterator[tuple[Key, tuple[str, ...]]]:
    """Yield each further base with the public names that come from it."""
    seen = set(vars(cls))
    for base in cls.__mro__[1:]:
        names = tuple(sorted(n for n in vars(base) if not n.startswith("_") and n not in seen))
        seen.update(names)
        if names:
            yield _home(base, homes), names


def members_of(cls: type) -> Iterator[Member]:
    """Yield the public members that the class defines itself, by name."""
    if issubclass(cls, Enum):
        for name in sorted(cls.__members__):
            value = shown(cls.__members__[name].value)
            yield Member(name, "value", f"{name} = {value}", "", None)
    for name, value in sorted(vars(cls).items()):
        if not name.startswith("_") and not (issubclass(cls, Enum) and name in cls.__members__):
            yield _member(cls, name, value)


def _member(cls: type, name: str, value: Any) -> Member:
    if isinstance(value, classmethod | staticmethod):
        kind = "class method" if isinstance(value, classmethod) else "static method"
        return _method(name, kind, getattr(cls, name), value.__func__)
    if isinstance(value, property | cached_property):
        function = value.fget if isinstance(value, property) else value.func
        return Member(name, "property", name, doc_of(value), line_of(function))
    if isinstance(value, FunctionType) or inspect.ismethoddescriptor(value):
        return _method(name, "method", value, value)
    if inspect.isclass(value):
        return Member(name, "class", name, doc_of(value), None)
    is_described = inspect.isdatadescriptor(value)
    return Member(name, "attribute", name, doc_of(value) if is_described else "", None)


def _method(name: str, kind: str, bound: Any, function: Any) -> Member:
    doc = doc_of(function)
    signature = signature_of(name, bound) if callable(bound) else None
    if signature is None:
        signature, doc = spoken_signature(name, doc)
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    return Member(name, kind, prefix + (signature or f"{name}({UNKNOWN})"), doc, line_of(function))
