"""What the URL map and the marks say of a path, remembered for the paths that are asked for.

Both doors ask here: the hook, which has been told the rule of its request by Flask, and the lane,
which has not and takes only what a request of the same path has shown.
"""

from __future__ import annotations

from werkzeug.routing import Rule

from .marks import Mark
from .page import path_key
from .site import Site
from .typed import canonical_path

#: Clients choose what is asked for.
_PATHS = 20_000


class Known:
    """One path, and the rule that Flask has matched it with.

    :ivar path: in the form that the rule has.
    :ivar key: of its page without a query, where pages differ neither by host nor by header; else,
        and where it is never stored, empty.
    :ivar is_plain: whether that page is the same for whoever asks, as far as the mark says.
    :ivar is_in_lane: whether a plain request was answered with that page, so that the next one
        need not go through Flask.
    """

    __slots__ = ("is_in_lane", "is_plain", "key", "mark", "path", "rule")

    def __init__(self, rule: Rule, mark: Mark | None, path: str, key: str) -> None:
        self.rule, self.mark, self.path, self.key = rule, mark, path, key
        self.is_plain = (
            mark is not None and bool(key) and not mark.respects and mark.visitors != "bots"
        )
        self.is_in_lane = False


class Paths:
    """The paths of one app that were asked for lately, as WSGI writes them."""

    def __init__(self, site: Site) -> None:
        self._routes, self._url_map = site.routes, site.app.url_map
        self._has_hosts = site.has_hosts
        self.known: dict[str, Known] = {}
        self._rules = 0
        site.routes.renewals.append(self.forget)

    def find(self, rule: Rule, path: str) -> Known:
        """Return what is known of a path that Flask has matched with a rule.

        :raises ConfigError: the selection function failed.
        """
        found = self.known.get(path)
        return found if found is not None and found.rule is rule else self._learn(rule, path)

    def _learn(self, rule: Rule, path: str) -> Known:
        if len(self.known) >= _PATHS:
            self.known = {}
        if not self.known:
            self._rules = self._count_rules()
        # Marks may change while this one is resolved: then nobody looks into this dict again.
        known = self.known
        mark, meant, key = self._routes.mark_for(rule, path), canonical_path(rule, path), ""
        meant = path if meant == path else meant  # one text instead of two
        if mark is not None and not mark.vary and not self._has_hosts:
            key = path_key(meant) or key
        found = known[path] = Known(rule, mark, meant, meant if key == meant else key)
        return found

    def forget(self) -> None:
        """Ask for everything anew: the marks have changed."""
        self.known = {}

    def follow(self) -> bool:
        """Forget everything when rules were added to the URL map, which never loses one, and return
        whether there were any."""
        has_more = bool(self.known) and self._count_rules() != self._rules
        if has_more:
            self.forget()
        return has_more

    def _count_rules(self) -> int:
        return sum(1 for _ in self._url_map.iter_rules())
