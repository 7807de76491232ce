"""What users' functions and caches must be like, checked when they are registered."""

from __future__ import annotations

import inspect
import math
import typing as t
import weakref
from collections.abc import Callable

from cachelib import BaseCache
from cachelib import NullCache

from ..errors import ConfigError

_TAG_LENGTH = 256
_NAME_LENGTH = 200

#: For each cache, the functions that keep values in it: their code, and how many values.
_promised: weakref.WeakKeyDictionary[BaseCache, dict[str, tuple[object, int]]]
_promised = weakref.WeakKeyDictionary()


def check_function(where: str, role: str, function: t.Any, *wanted: str) -> None:
    """
    :param role: the option that gives the function.
    :param wanted: the names of the arguments it is called with.
    :raises ConfigError: it is missing, or cannot be called like this.
    """
    count = "1 argument" if len(wanted) == 1 else f"{len(wanted)} arguments"
    form = f"a function of {count} ({', '.join(wanted)})"
    if function is None:
        raise ConfigError(f"{where}: {role}= is missing. It is {form}.")
    if not callable(function):
        raise ConfigError(f"{where}: {role}= is {function!r}, and must be {form}.")
    check_plain(where, role, function)
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C do not say
        return
    try:
        signature.bind(*wanted)
    except TypeError:
        raise ConfigError(
            f"{where}: {role}= must be {form}, and {name_of(function)}{signature} is not."
        ) from None


def check_plain(where: str, role: str, function: Callable[..., t.Any]) -> None:
    """
    :raises ConfigError: it is a coroutine function or a generator, whose result has one life only.
    """
    # An instance is called by its class; inspect itself looks into functools.partial.
    for call in (function, type(function).__call__):
        if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
            raise ConfigError(
                f"{where}: {role} {name_of(function)} is async, and must be a plain function: what "
                "it returns is used more than once. Call asyncio.run() in it."
            )
        if inspect.isgeneratorfunction(call):
            raise ConfigError(
                f"{where}: {role} {name_of(function)} is a generator, which can be read only once. "
                "Return a list."
            )


def check_seconds(where: str, name: str, value: t.Any) -> float | None:
    """
    :raises ConfigError: the value is not a number of seconds, or ``None``.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{where}: {name}= is {value!r}, and must be seconds, or None for ever.")
    return float(value)


def check_count(where: str, name: str, value: t.Any) -> int:
    """
    :raises ConfigError: the value is not a number of things from 1 on.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where}: {name}= is {value!r}, and must be a number from 1 on.")
    return value


def check_name(where: str, name: t.Any) -> str:
    """
    :raises ConfigError: the name is no text, or leaves a tag no room for the key.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_LENGTH:
        raise ConfigError(
            f"{where}: name= is {name!r}, and must be a text of 1 to {_NAME_LENGTH} characters."
        )
    return name


def check_tags(where: str, value: t.Any) -> tuple[str, ...]:
    """
    :raises ConfigError: these are not tags.
    """
    if not isinstance(value, str):
        try:
            tags = tuple(value)
        except TypeError:
            tags = (None,)
        if all(isinstance(tag, str) and 0 < len(tag) <= _TAG_LENGTH for tag in tags):
            return tags
    raise ConfigError(
        f"{where}: tags= is {value!r}, and must be a list of texts of 1 to {_TAG_LENGTH} "
        "characters."
    )


def check_cache(where: str, cache: t.Any, name: str, function: t.Any, count: int) -> None:
    """Take note that a function keeps values in a cache.

    :raises ConfigError: it is no cachelib cache, or one that would lose values without a word.
    """
    if not isinstance(cache, BaseCache):
        raise ConfigError(f"{where}: cache= is {cache!r}, and must be a cache of cachelib.")
    kind = type(cache).__name__
    if isinstance(cache, NullCache):
        raise ConfigError(f"{where}: cache= is a {kind}, which keeps nothing.")
    promised = _promised.setdefault(cache, {})
    code = getattr(function, "__code__", function)
    known, _ = promised.get(name, (code, 0))
    if known is not code:
        raise ConfigError(
            f"{where}: another function named {name!r} keeps its values in this cache already. "
            "Give one of them a name of its own with name=."
        )
    total = count + sum(number for other, (_, number) in promised.items() if other != name)
    threshold = getattr(cache, "_threshold", 0)
    if 0 < threshold < total:
        raise ConfigError(
            f"{where}: {kind} drops values beyond {threshold} without a word, and up to {total} "
            f"are kept in it. Make it {kind}(threshold={total}), or lower max_values=."
        )
    promised[name] = (code, count)


def name_of(function: t.Any) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def full_name(function: t.Any) -> str:
    """Return the module and name of a function: what its values are known by."""
    function = getattr(function, "func", function)  # functools.partial
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"[-_NAME_LENGTH:]
