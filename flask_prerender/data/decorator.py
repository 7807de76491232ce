"""``prerender.data``: the rules of pages for the value of a function."""

from __future__ import annotations

import functools
import inspect
import types
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import fields

from cachelib import BaseCache
from flask import Flask
from flask import Request

from ..errors import ConfigError
from ..errors import nearest
from ..site import Clock
from .cached import Dumps
from .cached import Loads
from .contracts import check_function
from .contracts import check_plain
from .contracts import name_of
from .kept import Home
from .kept import Kept
from .kept import Options
from .pipeline import Answer
from .pipeline import OnError
from .pipeline import Pipeline
from .values import Fetched

P = t.ParamSpec("P")
R = t.TypeVar("R")
E = t.TypeVar("E")
V = t.TypeVar("V")

_NAMED = inspect.Parameter.VAR_KEYWORD
_OPTIONS = frozenset(option.name for option in fields(Options))

#: Of what must be given: when it is not, an error says what it is.
_ASKED_FOR: t.Any = None


class DataOptions(t.TypedDict, total=False):
    """The options of kept values, for type checkers."""

    ttl: float | None
    stale_ttl: float | None
    tags: Iterable[str] | Callable[..., Iterable[str]]
    cache: BaseCache | None
    max_values: int
    name: str | None
    dumps: Dumps | None
    loads: Loads | None


class Fetching(t.Protocol):
    """The decorator that ``prerender.data`` returns when it is called with options."""

    @t.overload
    def __call__(self, function: Callable[P, Fetched[R]], /) -> Value[P, R]: ...

    @t.overload
    def __call__(self, function: Callable[P, R], /) -> Value[P, R]: ...

    def __call__(self, function: t.Any, /) -> t.Any: ...


class Data:
    """Keeps the values of functions by the rules of pages: fresh, then stale while a new one is
    fetched, then expired.

    ::

        @prerender.data(ttl=60, tags=["prices"])
        def price(sku):
            return requests.get(f"https://example.com/{sku}").json()
    """

    def __init__(self, clock: Clock, apps: Iterable[Flask]) -> None:
        self._home = Home(clock, apps)

    @t.overload
    def __call__(self, function: Callable[P, Fetched[R]], /) -> Value[P, R]: ...

    @t.overload
    def __call__(self, function: Callable[P, R], /) -> Value[P, R]: ...

    @t.overload
    def __call__(
        self,
        *,
        key: str | Callable[..., object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        **options: t.Unpack[DataOptions],
    ) -> Fetching: ...

    def __call__(
        self,
        function: Callable[..., t.Any] | None = None,
        *,
        key: str | Callable[..., object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        **options: t.Any,
    ) -> t.Any:
        """Keep what a function returns, bare or with options.

        :param ttl: seconds for which a value is fresh, 60 by default; ``None`` for ever.
        :param stale_ttl: seconds for which it is served after that, while a new one is fetched,
            3600 by default; ``None`` for ever.
        :param key: a text, or a function of the same arguments that returns one. Without it, each
            combination of arguments has a value.
        :param on_error: takes the error of a fetch that the caller had to wait for. What it returns
            is the caller's, and is not kept; without it the error is raised.
        :param tags: tags to take values back by, and the pages that were rendered from them; or a
            function of the same arguments that returns them.
        :param cache: a cache of cachelib, in place of the memory of this process.
        :param max_values: how many values are kept, 1000 by default; the least recently used makes
            room.
        :param name: what the values are known by, in place of the function's module and name.
        :param dumps: writes a value for the cache, in place of JSON.
        :param loads: reads it.
        :raises ConfigError: an option cannot be used, or the function cannot.
        """
        checked = _checked("prerender.data()", options)
        if function is None:
            return functools.partial(Value, self._home, checked, key, on_error)
        return Value(self._home, checked, key, on_error, function)

    def pipeline(
        self,
        *,
        fetch: Callable[[E], Fetched[V]] | Callable[[E], V] = _ASKED_FOR,
        apply: Callable[[Request, V], Answer] = _ASKED_FOR,
        extract: Callable[[Request], E] | None = None,
        key: str | Callable[[Request], object] | None = None,
        on_error: OnError | None = None,
        **options: t.Unpack[DataOptions],
    ) -> Pipeline:
        """Fetch a value and apply it to each request: for ``before_request``, or around a view.

        The other parameters are those of the decorator.

        :param extract: takes the request and returns what `fetch` needs of it.
        :param key: a text, or a function of the request that returns one; the same for all requests
            by default.
        :param fetch: takes what was extracted, and returns the value.
        :param apply: takes the request and the value. What it returns ends the request, unless it
            is ``None``.
        :param on_error: takes the request and the error of a fetch that the request had to wait
            for, in place of a line in the log. What it returns ends the request, unless it is
            ``None``.
        :raises ConfigError: a function is missing, or does not take these arguments.
        """
        return Pipeline(
            self._home,
            _checked("prerender.data.pipeline()", t.cast("dict[str, t.Any]", options)),
            fetch=fetch,
            apply=apply,
            extract=extract,
            key=key,
            on_error=on_error,
        )


class Value(Kept, t.Generic[P, R]):
    """A function whose values are kept. It is called like the function."""

    def __init__(
        self,
        home: Home,
        options: Options,
        key: str | Callable[..., object] | None,
        on_error: Callable[[Exception], object] | None,
        function: Callable[P, R],
    ) -> None:
        where = "prerender.data()"
        if not callable(function):
            raise ConfigError(f"{where} keeps the value of a function, and got {function!r}.")
        where = f"prerender.data() of {name_of(function)}"
        check_plain(where, "the function", function)
        self._signature = inspect.signature(function)
        self._parameters = self._signature.parameters
        if callable(key):
            _check_same(where, "key", key, self._signature)
        elif key is not None and not isinstance(key, str):
            raise ConfigError(f"{where}: key= is {key!r}, and must be a text, or a function.")
        if callable(options.tags):
            _check_same(where, "tags", options.tags, self._signature)
        if on_error is not None:
            check_function(where, "on_error", on_error, "error")
        functools.update_wrapper(self, function)
        super().__init__(home, where, function, options)
        self._count = len(self._parameters) if _are_positional(self._signature) else -1
        self._key = key
        self._on_error = on_error
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        tags = self._options.tags
        try:
            value = self._find(
                self.key(*args, **kwargs),
                lambda: self._function(*args, **kwargs),
                lambda: tags(*args, **kwargs) if callable(tags) else tags,
                *args,
                *kwargs.values(),
            )
        except Exception as error:
            if self._on_error is None:
                raise
            value = self._on_error(error)
        return t.cast(R, value)

    def __get__(self, instance: object, owner: type | None = None) -> t.Any:
        return self if instance is None else types.MethodType(self, instance)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> object:
        """Return the key of a call, as :meth:`purge` and :meth:`revalidate` take it: what ``key=``
        returns, else the one argument, or a tuple of all."""
        if callable(self._key):
            return self._key(*args, **kwargs)
        if self._key is not None:
            return self._key
        values: tuple[object, ...] = args
        if kwargs or len(args) != self._count:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            values = tuple(
                tuple(sorted(value.items())) if self._parameters[name].kind is _NAMED else value
                for name, value in bound.arguments.items()
            )
        return values[0] if len(values) == 1 else values


def _checked(where: str, options: dict[str, t.Any]) -> Options:
    """
    :raises ConfigError: there is no such option.
    """
    for unknown in options.keys() - _OPTIONS:
        hint = nearest(unknown, [*_OPTIONS, "key", "on_error"])
        raise ConfigError(f"{where}: there is no option {unknown!r}.{hint}")
    return Options(**options)


def _are_positional(signature: inspect.Signature) -> bool:
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    return kinds <= {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


def _check_same(where: str, role: str, function: t.Any, like: inspect.Signature) -> None:
    """
    :raises ConfigError: a function cannot be called like another one.
    """
    if _are_positional(like):
        check_function(where, role, function, *like.parameters)
    else:
        check_plain(where, role, function)
