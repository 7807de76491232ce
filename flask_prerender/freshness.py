"""What a response's own headers say of its storing: RFC 9111, RFC 5861, RFC 9213 as pure rules.

Nothing here reads a clock or a store. A shared cache is meant throughout.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from datetime import datetime
from datetime import UTC
from typing import Any

Headers = Sequence[tuple[str, str]]
#: A directive's argument as it was sent, without quotes; ``None`` when it has none.
Directives = dict[str, str | None]

#: Statuses that explicit freshness makes storable, besides those that the mark allows.
WITH_EXPLICIT = frozenset({203, 300, 301, 308, 404, 410})

#: RFC 9111, section 1.2.2: the greatest number of seconds a cache has to count.
_MOST_SECONDS = 2**31

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_PARTS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_DIGITS = re.compile(r"[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a response may be stored.

    :ivar age: how old it was when it came, in seconds.
    :ivar lifetime: for how long it is fresh, counted from its origin's moment.
    :ivar while_revalidate: for how long after that it may be served while it is made new.
    :ivar if_error: for how long after that it may be served when making it new fails.
    :ivar is_strict: it must not be served stale, whatever a client would take.
    :ivar is_shared: it may answer a request that has an ``Authorization`` (section 3.5).
    :ivar etag, last_modified: the validators as they were sent, or ``""``.
    :ivar date: when it was made, as an HTTP date, or ``""``.
    """

    age: float
    lifetime: float
    while_revalidate: float
    if_error: float
    is_strict: bool
    is_shared: bool
    etag: str
    last_modified: str
    date: str

    @property
    def fresh_for(self) -> float:
        """Seconds of freshness that are left at the moment it came."""
        return max(0.0, self.lifetime - self.age)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_terms(headers: Headers, now: float, delay: float) -> Terms | str:
    """Return the terms of a response, or why it may not be stored: ``"private"``, ``"no-store"``,
    or ``"freshness"``.

    :param now: when it came, :param delay: after how many seconds.
    """
    said, is_targeted = _directives(headers)
    if "no-store" in said or "no-store" in directives(values(headers, "surrogate-control")):
        return "no-store"
    if "private" in said:
        return "private"
    etag, last_modified = first(headers, "etag"), first(headers, "last-modified")
    if read_date(last_modified, now) is None:
        last_modified = ""
    date = read_date(first(headers, "date"), now)
    made = now if date is None else date
    lifetime = _lifetime(headers, said, is_targeted, made, now)
    age = max(now - made, _age(headers) + delay, 0.0)
    if lifetime is None or (lifetime <= age and not (etag or last_modified)):
        return "freshness"
    is_strict = not {"must-revalidate", "proxy-revalidate", "no-cache"}.isdisjoint(said)
    return Terms(
        age=age,
        lifetime=lifetime,
        while_revalidate=0.0 if is_strict else seconds(said, "stale-while-revalidate") or 0.0,
        if_error=0.0 if is_strict else seconds(said, "stale-if-error") or 0.0,
        # Section 5.2.2.10: s-maxage by itself means proxy-revalidate.
        is_strict=is_strict or "s-maxage" in said,
        is_shared=not {"public", "must-revalidate", "s-maxage"}.isdisjoint(said),
        etag=etag,
        last_modified=last_modified,
        date=first(headers, "date") if date is not None else "",
    )


def values(headers: Headers, name: str) -> list[str]:
    """Return the lines of a header."""
    return [value for found, value in headers if found.lower() == name]


def first(headers: Headers, name: str) -> str:
    found = values(headers, name)
    return found[0].strip() if found else ""


def directives(lines: Iterable[str]) -> Directives:
    """Read ``Cache-Control``. Of a directive that is sent twice, the first holds."""
    found: Directives = {}
    for line in lines:
        for part in _PARTS.findall(line):
            name, equals, value = part.strip().partition("=")
            if not _TOKEN.match(name):
                continue
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            found.setdefault(name.lower(), value if equals else None)
    return found


def seconds(said: Directives, name: str) -> float | None:
    """Return a directive's seconds: ``None`` when it is not there, 0 when they make no sense."""
    if name not in said:
        return None
    text = said[name] or ""
    # Sections 4.2.1 and 1.2.2: what is invalid is stale, what is huge is capped.
    return float(min(int(text[:20]), _MOST_SECONDS)) if _DIGITS.match(text) else 0.0


def _directives(headers: Headers) -> tuple[Directives, bool]:
    """Return the directives that are for us, and whether they came in ``CDN-Cache-Control``."""
    targeted = structured(", ".join(values(headers, "cdn-cache-control")))
    if targeted is not None:
        return targeted, True
    return directives(values(headers, "cache-control")), False


def _lifetime(
    headers: Headers, said: Directives, is_targeted: bool, made: float, now: float
) -> float | None:
    """Return for how long a response says it is fresh, or ``None`` (section 4.2.1). Nothing is
    guessed from ``Last-Modified``: a view that says nothing of it wants nothing stored."""
    if "no-cache" in said:
        return 0.0
    for name in ("s-maxage", "max-age"):
        if name in said:
            return seconds(said, name)
    # Section 2.1 of RFC 9213: CDN-Cache-Control stands in the place of Expires as well.
    if not is_targeted and values(headers, "expires"):
        moment = read_date(first(headers, "expires"), now)
        return 0.0 if moment is None else max(0.0, moment - made)
    return None


def _age(headers: Headers) -> float:
    """Section 5.1: the first member counts, and what is no number is ignored."""
    text = first(headers, "age").partition(",")[0].strip()
    return float(min(int(text[:20]), _MOST_SECONDS)) if _DIGITS.match(text) else 0.0


# Structured fields (RFC 8941), as far as CDN-Cache-Control uses them: a dictionary. Lists of items
# are read over; no directive has one.

_BARE = re.compile(
    r'-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
    r"|[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*|:[A-Za-z0-9+/=]*:|\?[01]"
)
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_COMMA = re.compile(r"[ \t]*,[ \t]*(?=[^\s])")
_SPACES = re.compile(r" *")


class _InvalidError(ValueError):
    """The text is no dictionary."""


def structured(text: str) -> Directives | None:
    """Read ``CDN-Cache-Control``: ``None`` when it is empty or not a valid dictionary, and is to
    be ignored."""
    found: Directives = {}
    text = text.strip(" ")
    at = 0
    try:
        while at < len(text):
            name = _match(_KEY, text, at)
            at, value = _value(text, at + len(name))
            at = _parameters(text, at)
            found.pop(name, None)
            if value != "?0":
                found[name] = value
            if at < len(text):
                at += len(_match(_COMMA, text, at))
    except _InvalidError:
        return None
    return found if text else None


def _match(form: re.Pattern[str], text: str, at: int) -> str:
    found = form.match(text, at)
    if found is None:
        raise _InvalidError
    return found[0]


def _value(text: str, at: int) -> tuple[int, str | None]:
    """Return where the value of a member ends, and what it is; ``None`` for true."""
    if text[at : at + 1] != "=":
        return at, None
    if text[at + 1 : at + 2] == "(":
        return _list(text, at + 2)
    item = _match(_BARE, text, at + 1)
    return at + 1 + len(item), None if item == "?1" else item


def _list(text: str, at: int) -> tuple[int, str]:
    start = at - 1
    while True:
        at += len(_match(_SPACES, text, at))
        if text[at : at + 1] == ")":
            return at + 1, text[start : at + 1]
        at = _parameters(text, at + len(_match(_BARE, text, at)))
        if text[at : at + 1] not in (" ", ")"):
            raise _InvalidError


def _parameters(text: str, at: int) -> int:
    """Return where the parameters of an item end; they mean nothing here."""
    while text[at : at + 1] == ";":
        at += 1 + len(_match(_SPACES, text, at + 1))
        at += len(_match(_KEY, text, at))
        if text[at : at + 2] == "=(":  # a parameter is never a list
            raise _InvalidError
        at, _ = _value(text, at)
    return at


# Dates, in the three forms of RFC 9110, section 5.6.7, and in no other.

_MONTHS = {
    name: n
    for n, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = [
    re.compile(rf"\w{{3}}, (?P<day>\d\d) (?P<month>\w{{3}}) (?P<year>\d{{4}}) {_TIME} GMT\Z", re.A),
    re.compile(rf"\w{{6,9}}, (?P<day>\d\d)-(?P<month>\w{{3}})-(?P<year>\d\d) {_TIME} GMT\Z", re.A),
    re.compile(rf"\w{{3}} (?P<month>\w{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})\Z", re.A),
]


def read_date(text: str, now: float) -> float | None:
    """Return an HTTP date as seconds since the epoch, or ``None`` when it is none.

    :param now: a two-digit year more than 50 years after it is one of the past.
    """
    found = next(filter(None, (form.match(text) for form in _DATES)), None)
    if found is None or found["month"].lower() not in _MONTHS:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year - this_year % 100
        year -= 100 if year > this_year + 50 else 0
    second = min(int(found["second"]), 59)  # a leap second is as good as the one before it
    try:
        moment = datetime(
            year, _MONTHS[found["month"].lower()], int(found["day"]), int(found["hour"]),
            int(found["minute"]), second,
        )  # fmt: skip
    except ValueError:
        return None
    return float(calendar.timegm(moment.timetuple()))
