"""Which variant a request gets, whether it has it already, and which part it wants.

What HTTP says is read by Werkzeug; the comparisons that most requests need are made first, as
texts, because they are a hundred times cheaper.
"""

from __future__ import annotations

import typing as t
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
from datetime import UTC

from werkzeug.wrappers import Request

from .page import IDENTITY

Environ = Mapping[str, t.Any]

_REMEMBERED = 1024

#: Parts of the user agents of crawlers: search, previews, archives, assistants.
BOTS = (
    "googlebot", "google-inspectiontool", "bingbot", "yandex", "baiduspider", "duckduckbot",
    "slurp", "applebot", "facebookexternalhit", "facebot", "twitterbot", "linkedinbot", "pinterest",
    "slackbot", "discordbot", "telegrambot", "whatsapp", "embedly", "redditbot",
    "ia_archiver", "archive.org_bot", "petalbot", "semrushbot", "ahrefsbot", "mj12bot", "seznambot",
    "gptbot", "oai-searchbot", "claudebot", "perplexitybot", "ccbot", "amazonbot", "bytespider",
    "skypeuripreview", "vkshare", "w3c_validator", "rogerbot", "showyoubot",
    "quora link preview", "outbrain",
)  # fmt: skip


class Encodings:
    """The encodings that each ``Accept-Encoding`` accepts, best first, remembered by its text.

    :param order: the server's order, without identity.
    :param by: ``"client"``: the highest q wins, and `order` decides between equals;
        ``"server"``: `order` decides among all that are accepted.
    """

    def __init__(self, order: Sequence[str], by: str) -> None:
        self._order = tuple(order)
        self._by = by
        self._known: dict[str | None, tuple[str, ...]] = {None: (IDENTITY,)}

    def __getitem__(self, header: str | None) -> tuple[str, ...]:
        try:
            return self._known[header]
        except KeyError:
            if len(self._known) >= _REMEMBERED:  # clients choose these keys
                self._known = {None: (IDENTITY,)}
            return self._known.setdefault(header, self._rank(header or ""))

    def _rank(self, header: str) -> tuple[str, ...]:
        """See RFC 9110, section 12.5.3: identity is accepted unless it is refused."""
        accepted = Request({"HTTP_ACCEPT_ENCODING": header}).accept_encodings
        named = {str(coding).lower() for coding, _ in accepted}
        qualities = {coding: accepted.quality(coding) for coding in self._order}
        if IDENTITY in named or "*" in named:
            qualities[IDENTITY] = accepted.quality(IDENTITY)
        else:
            qualities[IDENTITY] = 1e-9
        ranked = [coding for coding in (*self._order, IDENTITY) if qualities[coding] > 0]
        if self._by == "client":
            ranked.sort(key=lambda coding: -qualities[coding])
        return tuple(ranked)


class Validators(t.Protocol):
    """What a client's copy is compared with: the tags of all variants, and a moment."""

    @property
    def etags(self) -> Collection[str]: ...

    changed_at: float


def has_it(environ: Environ, etag: str, page: Validators) -> bool:
    """Return whether the client's copy is still good, so that 304 is the answer.

    ``If-None-Match`` is compared weakly with the tags of all variants and beats
    ``If-Modified-Since`` (RFC 9110, section 13.2.2).

    :param etag: of the variant that would be sent.
    """
    wanted = environ.get("HTTP_IF_NONE_MATCH")
    if wanted is not None:
        if wanted == etag:
            return True
        known = Request(dict(environ)).if_none_match
        return any(known.contains_weak(tag.removeprefix("W/").strip('"')) for tag in page.etags)
    if "HTTP_IF_MODIFIED_SINCE" not in environ:
        return False
    since = Request(dict(environ)).if_modified_since
    return since is not None and int(page.changed_at) <= since.timestamp()


def wanted_range(
    environ: Environ, etag: str, changed_at: float | None, size: int
) -> tuple[int, int] | t.Literal["unsatisfiable"] | None:
    """Return the bytes a request asks for, first and past the last; ``None`` for all of them.

    One range of bytes is served. Several, or one that is not understood, get the whole page, as
    does an ``If-Range`` that does not name exactly this version (RFC 9110, section 14).

    :param changed_at: ``None`` when no date names it.
    """
    request = Request(dict(environ))
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    condition = environ.get("HTTP_IF_RANGE")
    if condition is not None and not _is_same(request, condition, etag, changed_at):
        return None
    start = wanted.ranges[0][0]
    if start is None or (start < 0 and -start >= size) or start >= size:
        return (0, size) if start is not None and start < 0 and size else "unsatisfiable"
    return wanted.range_for_length(size)


def _is_same(request: Request, condition: str, etag: str, changed_at: float | None) -> bool:
    """``If-Range`` wants the strong tag, or exactly the date of this version."""
    if condition.lstrip().startswith(('"', "W/")):
        return condition.strip() == etag and etag.startswith('"')
    date = request.if_range.date
    return changed_at is not None and date == datetime.fromtimestamp(int(changed_at), UTC)


class Crawlers:
    """Who is a crawler, by user agent."""

    def __init__(self, more: Sequence[str]) -> None:
        self._parts = (*BOTS, *(part.lower() for part in more))
        self._known: dict[str, bool] = {"": False}

    def __contains__(self, user_agent: str) -> bool:
        try:
            return self._known[user_agent]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known = {"": False}
            lower = user_agent.lower()
            found = any(part in lower for part in self._parts)
            return self._known.setdefault(user_agent, found)
