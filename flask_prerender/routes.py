"""Which routes are marked, and which URLs a marked route has."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from .errors import ConfigError
from .errors import RouteError
from .errors import TagsError
from .groups import Group
from .groups import is_in
from .marks import build_mark
from .marks import left_on
from .marks import Mark
from .options import normal_options
from .options import Values
from .page import make_key
from .page import wsgi_path
from .params import listed
from .params import refuse_unknown
from .patterns import Patterns
from .problems import empty
from .problems import failing_enumerator
from .problems import failing_tags
from .problems import idle
from .problems import Problem
from .problems import unlisted
from .problems import unstorable
from .settings import Settings
from .variants import variants_of
from .variants import with_variant

Select = Callable[[Rule, Callable[..., t.Any]], Mapping[str, t.Any] | bool | None]
#: Stands for a mark that was not resolved yet; ``None`` is the mark of a route that has none.
_UNKNOWN: t.Any = object()


@dataclass(frozen=True, slots=True)
class Target:
    """One URL of a marked route, ready to be rendered."""

    key: str
    rule: str
    endpoint: str
    mark: Mark
    tags: tuple[str, ...] = ()
    last_modified: float | None = None
    #: Stored because a visitor asked for it; no enumerator lists it.
    is_visited: bool = False


class Routes:
    """The marked routes of one app."""

    def __init__(self, app: Flask, settings: Settings, select: Select | None) -> None:
        self._app, self._settings, self._select = app, settings, select
        self._groups: list[Group] = []
        # A Rule is not hashable; those of a URL map live as long as the map, so ids name them.
        self._blocks: dict[int, dict[str, t.Any]] = {}
        self._marks: dict[tuple[int, tuple[int, ...]], Mark | None] = {}
        self._patterns = Patterns(settings.rules)
        #: Called when marks change, for rooms above this one that remember some.
        self.renewals: list[Callable[[], None]] = []

    def add_group(self, group: Group) -> None:
        self._groups.append(group)
        self.forget()

    def add_block(self, rules: Iterable[Rule], options: dict[str, t.Any]) -> None:
        for rule in rules:
            self._blocks[id(rule)] = {**options, **self._blocks.get(id(rule), {})}
        self.forget()

    def forget(self) -> None:
        """Drop resolved marks; they are found again when asked for."""
        self._marks = {}  # whoever resolves a mark meanwhile keeps it in the old one
        for renew in self.renewals:
            renew()

    def mark_for(self, rule: Rule, path: str) -> Mark | None:
        """Return the mark of a route at a path, or ``None`` when it is not marked.

        :param path: as WSGI gives it: the bytes of its UTF-8, read as latin-1.
        :raises ConfigError: the selection function failed.
        """
        # One mark for each route and set of patterns.
        known, marks = (id(rule), self._patterns.fitting(path)), self._marks
        if (mark := marks.get(known, _UNKNOWN)) is _UNKNOWN:
            mark = marks.setdefault(known, self._resolve(rule, known[1]))
        return t.cast("Mark | None", mark)

    def _resolve(self, rule: Rule, patterns: tuple[int, ...]) -> Mark | None:
        view = self._app.view_functions.get(rule.endpoint)
        if view is None or not _is_page(rule) or self._is_static(rule.endpoint):
            return None
        configured = self._patterns.options(patterns)
        if configured and configured[-1] is False:
            return None  # an operator's No is not overruled by code
        marked = False
        options: dict[str, t.Any] = {}
        for level in (*configured, *self._levels(rule, view)):
            marked = level is not False
            if isinstance(level, Mapping):
                options.update(level)
        return build_mark(options, self._settings) if marked else None

    def _levels(
        self, rule: Rule, view: Callable[..., t.Any]
    ) -> Iterator[Mapping[str, t.Any] | bool]:
        """Yield what the program says about a route, from the most general to the nearest."""
        for target, options in self._groups:
            if is_in(self._app, rule.endpoint, target):
                yield options
        if id(rule) in self._blocks:
            yield self._blocks[id(rule)]
        selected = self._selected(rule, view)
        if selected is not None:
            yield normal_options(selected, f"select() for the endpoint {rule.endpoint!r}")
        own = left_on(view)
        if own is not None:
            yield own

    def _selected(
        self, rule: Rule, view: Callable[..., t.Any]
    ) -> Mapping[str, t.Any] | bool | None:
        try:
            return self._select(rule, view) if self._select else None
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"select() failed for {rule.rule} ({rule.endpoint}): {cause}"
            ) from error

    def _is_static(self, endpoint: str) -> bool:
        """Whether Flask sends files there: they are stored already, whatever pattern fits them."""
        name, _, last = endpoint.rpartition(".")
        owner = self._app.blueprints.get(name) if name else self._app
        return last == "static" and owner is not None and owner.has_static_folder

    def match(self, environ: Mapping[str, t.Any], key: str) -> Target | None:
        """Return the marked route that answers a request, or ``None`` when none does."""
        adapter = self._app.create_url_adapter(self._app.request_class(dict(environ)))
        if adapter is None:
            return None
        try:
            rule, values = adapter.match(method="GET", return_rule=True)
        except HTTPException:
            return None
        mark = self.mark_for(rule, environ["PATH_INFO"])
        if mark is None:
            return None
        with self._app.app_context():  # a tags callable may ask the database
            return Target(key, rule.rule, rule.endpoint, mark, mark.tags_for(values))

    def marked_rules(self) -> list[tuple[Rule, Mark]]:
        """Return every marked rule with its mark, in the order of the URL map."""
        found = []
        for rule in self._app.url_map.iter_rules():
            mark = self.mark_for(rule, rule.rule.encode().decode("latin-1"))
            if mark is not None:
                found.append((rule, mark))
        return found

    def idle(self) -> Iterator[Problem]:
        """Yield a warning for each pattern and each group that no route belongs to."""
        rules = list(self._app.url_map.iter_rules())
        yield from self._patterns.problems(rules)
        for target, _ in self._groups:
            if not any(is_in(self._app, rule.endpoint, target) for rule in rules):
                name = target if isinstance(target, str) else target.name
                yield idle(f"mark_all({name!r})", "no route belongs to it", endpoint=name)

    def targets(self, on_problem: Callable[[Problem], None]) -> Iterator[Target]:
        """Yield every URL of every marked route, lazily, telling of problems on the way.

        Run it inside an application context: enumerators ask databases.
        """
        marked = self.marked_rules()
        for endpoint in dict.fromkeys(rule.endpoint for rule, _ in marked):
            pairs = [(rule, mark) for rule, mark in marked if rule.endpoint == endpoint]
            plain = [(rule, mark) for rule, mark in pairs if rule.suitable_for({}, "GET")]
            for rule, _ in plain:
                try:
                    yield from self._target(rule, {}, None, on_problem)
                except TagsError as error:
                    on_problem(failing_tags(rule, error))
            with_arguments = [pair for pair in pairs if pair not in plain]
            if with_arguments or pairs[0][1].params is not None:
                yield from self._enumerated(with_arguments or pairs, marked, on_problem)

    def _enumerated(
        self,
        pairs: list[tuple[Rule, Mark]],
        marked: list[tuple[Rule, Mark]],
        on_problem: Callable[[Problem], None],
    ) -> Iterator[Target]:
        rule, mark = pairs[0]
        if mark.params is None:
            if "fallback" not in mark.declared:
                on_problem(unlisted(rule))
            return
        count = 0
        try:
            for values, last_modified in listed(rule, mark, marked):
                count += 1
                yield from self._target(rule, values, last_modified, on_problem)
        except TagsError as error:
            on_problem(failing_tags(rule, error))
            return
        except Exception as error:
            on_problem(failing_enumerator(rule, error))
            return
        if not count:
            on_problem(empty(rule))

    def _target(
        self,
        rule: Rule,
        values: Values,
        last_modified: float | None,
        on_problem: Callable[[Problem], None],
    ) -> Iterator[Target]:
        chosen, built = self._build(rule, values)
        if chosen is None or built is None:
            raise RouteError(
                f"{dict(values)!r} does not fit {rule.rule}, which takes "
                f"{', '.join(sorted(rule.arguments)) or 'no arguments'}."
            )
        host, path = built
        mark = self.mark_for(chosen, wsgi_path(path))
        if mark is None:
            return
        refuse_unknown(self._app.url_map.iter_rules(rule.endpoint), mark, values)
        query = [(n, str(values[n])) for n in mark.query if values.get(n) is not None]
        arguments = {n: v for n, v in values.items() if n in chosen.arguments}
        arguments |= chosen.defaults or {}
        key = make_key(wsgi_path(path), query, self.key_host(host))
        if key is None:
            on_problem(unstorable(rule, path))
            return
        tags = mark.tags_for(arguments)
        for variant in variants_of(mark.vary):
            full = with_variant(key, variant)
            yield Target(full, chosen.rule, chosen.endpoint, mark, tags, last_modified)

    def key_of(self, endpoint: str, values: Values) -> str:
        """Return the key of one URL of an endpoint.

        :raises RouteError: the arguments fit none of its rules, or the URL is never stored.
        """
        for rule in self._app.url_map.iter_rules(endpoint):
            chosen, built = self._build(rule, values)
            if chosen is not None and built is not None:
                host, path = built
                mark = self.mark_for(chosen, wsgi_path(path))
                names = mark.query if mark else ()
                query = [(name, str(values[name])) for name in names if name in values]
                key = make_key(wsgi_path(path), query, self.key_host(host))
                if key is not None:
                    return key
        raise RouteError(f"{dict(values)!r} is no URL of {endpoint}.")

    def _build(self, rule: Rule, values: Values) -> tuple[Rule | None, tuple[str, str] | None]:
        """Build the URL with the rule of the endpoint that Flask's own url_for would take."""
        rules = list(self._app.url_map.iter_rules(rule.endpoint)) if values else [rule]
        # A misspelt argument must not end at a rule of the endpoint that takes none.
        wanted = [one.arguments for one in rules if one.arguments or not rule.arguments]
        for candidate in filter(_is_page, rules):
            known = {n: v for n, v in values.items() if n in candidate.arguments}
            given = {*known, *(candidate.defaults or ())}
            if candidate.suitable_for(known, "GET") and any(names <= given for names in wanted):
                return candidate, candidate.build(known, append_unknown=False)
        return None, None

    def key_host(self, host: str) -> str:
        """Return the host part of keys: empty unless the app's pages differ by host."""
        if self._app.url_map.host_matching:
            return host.lower()
        if not self._app.subdomain_matching:
            return ""
        name = str(self._app.config["SERVER_NAME"] or "localhost").lower()
        return f"{host.lower()}.{name}" if host else name


def _is_page(rule: Rule) -> bool:
    return (
        rule.methods is not None
        and "GET" in rule.methods
        and not (rule.build_only or rule.alias or rule.redirect_to or rule.websocket)
    )
