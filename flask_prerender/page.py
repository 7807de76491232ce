"""What a page is: its facts, its freshness, its key, and the file it is written to.

Values and pure rules only: nothing here reads a clock, a file or a request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from email.utils import formatdate
from typing import Any
from typing import Literal
from urllib.parse import parse_qsl
from urllib.parse import quote
from urllib.parse import unquote
from urllib.parse import unquote_to_bytes
from urllib.parse import urlencode
from urllib.parse import urlsplit

IDENTITY = "identity"

#: What is added to a file name, and to an ETag, for an encoded variant.
SUFFIXES = {IDENTITY: "", "gzip": "gz", "br": "br", "zstd": "zst"}

State = Literal["fresh", "stale", "expired"]
Style = Literal["dir_index", "file"]

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_TEN_YEARS = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Variant:
    """One encoding of a page's body: its coding, SHA-256 in hex, and size in bytes."""

    encoding: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Page:
    """The facts of one stored page. Times are seconds since the epoch, spans are seconds."""

    key: str
    #: The URL rule and the endpoint that answered.
    rule: str
    endpoint: str
    #: Where the public tree has the page, relative, with forward slashes.
    file: str
    status: int
    headers: tuple[tuple[str, str], ...]
    #: ``identity`` first, then what compressed well.
    variants: tuple[Variant, ...]
    tags: tuple[str, ...]
    #: The revision that stood when the render began.
    revision: int
    #: The token of the claim it was made under: a page never replaces one with a higher token.
    token: int
    #: ``"build"`` or ``"visit"``: who asked for the page first.
    origin: str
    #: The number of the build that last made or checked the page; 0 for first visits.
    build: int
    #: When these bytes were first made, when the body last changed, when it was last confirmed.
    generated_at: float
    changed_at: float
    checked_at: float
    revalidate: float | None = None
    expire: float | None = None
    #: What the enumerator says of the content's age, for the sitemap.
    last_modified: float | None = None
    #: Which compressors were at hand, so that a new one is noticed.
    compressors: str = ""
    #: The templates it was made with, those they extend and include among them.
    templates: tuple[str, ...] = ()
    #: The rest of the mark, for the manifest and the sitemap.
    options: dict[str, Any] = field(default_factory=dict)
    #: In respect mode: what the response said of its storing (``freshness.Terms``).
    terms: dict[str, Any] | None = None

    @property
    def identity(self) -> Variant:
        return self.variants[0]

    @property
    def size(self) -> int:
        """Bytes of all variants together."""
        return sum(variant.size for variant in self.variants)

    @property
    def mimetype(self) -> str:
        return mimetype_of(self.headers)

    def age(self, now: float) -> float:
        return now - self.checked_at

    def state(self, now: float) -> State:
        """Return whether the page is fresh, stale or expired at `now`.

        A page from the future, or one older than ten years, has met a clock that was set: it is
        stale whatever its spans say, so that it is made again and never frozen.
        """
        if self.revalidate is None and self.expire is None:
            return "fresh"
        age = self.age(now)
        if age < 0 or age > _TEN_YEARS:
            return "stale"
        if self.expire is not None and age >= self.expire:
            return "expired"
        if self.revalidate is not None and age >= self.revalidate:
            return "stale"
        return "fresh"

    def to_json(self) -> str:
        # By hand: dataclasses.asdict copies deeply, and costs more than the commit of the row.
        facts = {name: getattr(self, name) for name in self.__slots__}
        facts["variants"] = [
            {"encoding": one.encoding, "digest": one.digest, "size": one.size}
            for one in self.variants
        ]
        return _ENCODER.encode(facts)

    def but(self, **facts: Any) -> Page:
        """Return a page with some other facts."""
        return _made_of({name: facts.get(name, getattr(self, name)) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Page:
        """Read what :meth:`to_json` wrote.

        :raises ValueError: the text is not a page.
        """
        try:
            facts = json.loads(text)
            facts["headers"] = tuple((name, value) for name, value in facts["headers"])
            facts["variants"] = tuple(Variant(**variant) for variant in facts["variants"])
            facts["tags"] = tuple(facts["tags"])
            facts["templates"] = tuple(facts["templates"])
            # One of an earlier version may lack what has a default.
            page = _made_of(facts) if len(facts) == len(_SETTERS) else cls(**facts)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a page: {error}") from error
        if not page.variants or page.variants[0].encoding != IDENTITY:
            raise ValueError("not a page: no identity variant")
        return page


#: A frozen class is slow to make, and a build makes several pages of each.
_SETTERS = tuple((name, getattr(Page, name).__set__) for name in Page.__slots__)


def _made_of(facts: dict[str, Any]) -> Page:
    """
    :raises KeyError: one is missing.
    """
    page = Page.__new__(Page)
    for name, put in _SETTERS:
        put(page, facts[name])
    return page


def digest(body: bytes) -> str:
    """Return the SHA-256 of `body` in hex: the name its bytes are stored under."""
    return hashlib.sha256(body).hexdigest()


def http_date(moment: float) -> str:
    return formatdate(moment, usegmt=True)


# Keys. A key is the URL as one would type it: the canonical path, percent-encoded in one way
# only; "?" and the declared query parameters, sorted; "//host" before it where hosts differ.

_SAFE = "/:@!$&'()*+,;=~"
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)+/?\Z|/\Z")
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_KEY_BYTES = 2000


def path_key(raw_path: str) -> str | None:
    """Return the key's path for a WSGI ``PATH_INFO``, or ``None`` when it must not be stored.

    Refused are bytes that are not UTF-8, control characters, backslashes, empty segments, and
    ``.`` and ``..``: no two different paths may share a key, and none may name a place outside.
    """
    if _PLAIN_PATH.match(raw_path):
        return raw_path if len(raw_path) <= _KEY_BYTES else None
    try:
        path = raw_path.encode("latin-1").decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return None
    if not path.startswith("/") or _FORBIDDEN.search(path):
        return None
    segments = path[1:].split("/")
    if segments[-1] == "":
        segments.pop()
    if any(segment in ("", ".", "..") for segment in segments):
        return None
    key = quote(path, safe=_SAFE)
    return key if len(key) <= _KEY_BYTES else None


def make_key(raw_path: str, query: Iterable[tuple[str, str]] = (), host: str = "") -> str | None:
    """Return the page key, or ``None`` when such a URL is never stored.

    :param raw_path: the path as WSGI gives it: the bytes of its UTF-8, read as latin-1.
    :param query: the declared parameters of the request, in the order they came.
    :param host: lower case, only for apps whose pages differ by host.
    """
    key = path_key(raw_path)
    if key is None:
        return None
    if query:
        pairs = sorted(query, key=lambda pair: pair[0])
        try:
            encoded = urlencode(pairs, quote_via=quote)
        except UnicodeEncodeError:
            return None
        key = f"{key}?{encoded}" if encoded else key
    if host:
        if not _HOST.match(host):
            return None
        key = f"//{host}{key}"
    return key if len(key) <= _KEY_BYTES else None


def is_same_anew(query: str) -> bool:
    """Whether a query as WSGI gives it says the same, to whoever reads it whole, when a key has
    sorted its parameters and encoded them anew: not so ``?wsdl``, and bytes that are not UTF-8."""
    try:
        unquote_to_bytes(query.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        return False
    return all("=" in part for part in query.split("&") if part)


def mimetype_of(headers: Iterable[tuple[str, str]]) -> str:
    """Return the media type that a Content-Type names, in lower case, or ``""``."""
    for name, value in headers:
        if name.lower() == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""


def typed_key(path: str, base_url: str = "", *, has_hosts: bool = False) -> str | None:
    """Return the key of a path or URL as a person types it, with or without a query; ``None`` when
    no such URL is ever stored.

    :param base_url: absolute URLs below this address are taken as well.
    :param has_hosts: whether keys begin with ``//host``.
    """
    path = without_base(path, base_url, has_hosts=has_hosts)
    host, plain, query = split_key(path)
    if bool(host) != has_hosts:
        return None
    raw = unquote_to_bytes(plain.encode("utf-8", "surrogateescape")).decode("latin-1")
    return make_key(raw, parse_qsl(query, keep_blank_values=True), host.lower())


def without_base(url: str, base_url: str, *, has_hosts: bool = False) -> str:
    """Return an absolute URL below `base_url` in the form of keys, and anything else as it is."""
    if not base_url or not (url == base_url or url.startswith(f"{base_url}/")):
        return url
    own_host = f"//{urlsplit(base_url).netloc.lower()}" if has_hosts else ""
    return own_host + (url.removeprefix(base_url) or "/")


def split_key(key: str) -> tuple[str, str, str]:
    """Return host (or ``""``), percent-encoded path, and query string of a key."""
    host = ""
    if key.startswith("//"):
        host, slash, rest = key[2:].partition("/")
        key = slash + rest
    path, _, query = key.partition("?")
    return host, path, query


def wsgi_path(path: str) -> str:
    """Return a percent-encoded path as WSGI's ``PATH_INFO``."""
    return unquote(path, "latin-1")
