"""A value fetched once for many requests, and applied to each of them before its view."""

from __future__ import annotations

import functools
import logging
import typing as t
from collections.abc import Callable

from flask import current_app
from flask import Request
from flask import request
from flask.typing import ResponseReturnValue

from ..errors import ConfigError
from .contracts import check_function
from .kept import Home
from .kept import Kept
from .kept import Options

log = logging.getLogger("flask_prerender")

P = t.ParamSpec("P")

Answer = ResponseReturnValue | None
OnError = Callable[[Request, Exception], Answer]

_WHERE = "prerender.data.pipeline()"
_KEY = ""


class Pipeline(Kept):
    """The steps before a view: extract, key, fetch, apply.

    Without arguments it is a function for ``before_request``; with a view it is a decorator.
    """

    def __init__(
        self,
        home: Home,
        options: Options,
        *,
        fetch: Callable[[t.Any], t.Any],
        apply: Callable[[Request, t.Any], Answer],
        extract: Callable[[Request], t.Any] | None,
        key: str | Callable[[Request], object] | None,
        on_error: OnError | None,
    ) -> None:
        check_function(_WHERE, "fetch", fetch, "extracted")
        check_function(_WHERE, "apply", apply, "request", "value")
        if extract is not None:
            check_function(_WHERE, "extract", extract, "request")
        if callable(key):
            check_function(_WHERE, "key", key, "request")
        elif key is not None and not isinstance(key, str):
            raise ConfigError(f"{_WHERE}: key= is {key!r}, and must be a text, or a function.")
        if on_error is not None:
            check_function(_WHERE, "on_error", on_error, "request", "error")
        if callable(options.tags):
            check_function(_WHERE, "tags", options.tags, "extracted")
        super().__init__(home, _WHERE, fetch, options)
        self._fetch = fetch
        self._apply = apply
        self._extract = extract
        self._key = key
        self._on_error = on_error

    @t.overload
    def __call__(self) -> Answer: ...

    @t.overload
    def __call__(self, view: Callable[P, ResponseReturnValue], /) -> Callable[P, t.Any]: ...

    def __call__(self, view: Callable[..., t.Any] | None = None) -> t.Any:
        """Take the steps, and return the response that ends the request, or ``None``.

        :param view: take them before this view instead, whenever it is called.
        """
        if view is None:
            return self._take_steps()

        @functools.wraps(view)
        def with_steps(*args: t.Any, **kwargs: t.Any) -> t.Any:
            answer = self._take_steps()
            return current_app.ensure_sync(view)(*args, **kwargs) if answer is None else answer

        return with_steps

    def _take_steps(self) -> Answer:
        asking: Request = request._get_current_object()  # type: ignore[attr-defined]
        extracted = self._extract(asking) if self._extract else None
        key = self._key(asking) if callable(self._key) else self._key or _KEY
        tags = self._options.tags
        try:
            value = self._find(
                key,
                lambda: self._fetch(extracted),
                lambda: tags(extracted) if callable(tags) else tags,
                extracted,
            )
        except Exception as error:
            if self._on_error is not None:
                return self._on_error(asking, error)
            log.error("%s for %s could not be fetched", self.name, asking.path, exc_info=error)
            return None
        return self._apply(asking, value)
