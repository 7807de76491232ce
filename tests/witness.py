"""A site whose pages can be checked from outside, and readers who check them.

Each page carries its version and the digest of its own text, and says its version again in a
header: bytes that were torn, or mixed of two renders, do not pass :func:`check`.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from http.client import HTTPException
from pathlib import Path
from typing import Any
from typing import Self

import brotli
from flask import abort
from flask import Flask
from flask import Response

from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender.page import SUFFIXES
from flask_prerender.stores.files import FileStore

PAGES = 24
PATHS = [f"/page/{number}" for number in range(PAGES)]
ENCODINGS = ("identity", "gzip", "br")
_WORDS = [
    "a",
    "page",
    "of",
    "many",
    "words",
    "which",
    "are",
    "read",
    "and",
    "written",
    "while",
    "somebody",
    "kills",
    "the",
    "writer",
]
_TESTS = Path(__file__).resolve().parent


# The site.


def text_of(path: str, version: str) -> bytes:
    """Return a page of some 16 kB, all of which depends on its path and version."""
    dice = random.Random(f"{path} {version}")
    words = " ".join(f"{dice.choice(_WORDS)}{dice.getrandbits(12)}" for _ in range(1800))
    text = f"<title>{path} {version}</title>\n<p>{words}</p>\n".encode()
    return text + b"<!-- %s -->" % hashlib.sha256(text).hexdigest().encode()


def write_version(folder: Path, version: object) -> None:
    """Change the content of every page at once."""
    new = folder / "version.new"
    new.write_text(str(version))
    new.replace(folder / "version")


def add_pages(app: Flask, folder: Path, *, broken: bool = False) -> None:
    """Add the routes: pages of a build, of first visits, and ones that expire at once.

    :param broken: every view fails, so that only stored pages can answer.
    """

    def answer(path: str, version: str | None = None) -> Response:
        if broken:
            abort(503)
        version = version or (folder / "version").read_text()
        response = Response(text_of(path, version), mimetype="text/html")
        response.headers["X-Version"] = version
        return response

    slow = float(os.environ.get("WITNESS_SLOW", 0))

    @app.route("/page/<int:number>")
    @app.prerender(params=lambda: ({"number": number} for number in range(PAGES)))  # type: ignore[attr-defined]
    def page(number: int) -> Response:
        threading.Event().wait(slow)
        return answer(f"/page/{number}")

    @app.route("/visit/<int:number>")
    @app.prerender  # type: ignore[attr-defined]
    def visited(number: int) -> Response:
        return answer(f"/visit/{number}")

    @app.route("/live/<int:number>")
    @app.prerender(revalidate=0.02, expire=0.05)  # type: ignore[attr-defined]
    def live(number: int) -> Response:
        return answer(f"/live/{number}", str(time.time_ns()))


def create_app() -> Flask:
    """Make the app of a server or a build, in the folder that the environment names."""
    folder = Path(os.environ["WITNESS_FOLDER"])
    app = Flask("site", root_path=str(folder), instance_path=str(folder / "instance"))
    app.config.from_prefixed_env("WITNESS_CONFIG")
    prerender = Prerender(app)
    add_pages(app, folder)

    @app.after_request
    def name_the_process(response: Response) -> Response:
        if not prerender.is_rendering:
            response.headers["X-Pid"] = str(os.getpid())
        return response

    if "WITNESS_ANNOUNCE" in os.environ:
        signals.generate_started.connect(lambda sender, **_: print("begun", flush=True), weak=False)
    return app


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return what a server or a build of the site needs in its environment."""
    path = os.pathsep.join([str(_TESTS.parent), str(_TESTS)])
    return {"WITNESS_FOLDER": str(folder), "PYTHONPATH": path, **more}


def start_build(folder: Path, *options: str, **more: str) -> subprocess.Popen[bytes]:
    """Start ``flask prerender`` in a process of its own."""
    command = [sys.executable, "-m", "flask", "--app", "witness", "prerender", "--quiet"]
    return subprocess.Popen(
        [*command, *options],
        cwd=folder,
        env={**os.environ, **environment(folder, **more)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def build(folder: Path, version: object) -> None:
    """Build the site with new content, and wait for it."""
    write_version(folder, version)
    process = start_build(folder)
    said, _ = process.communicate(timeout=50)
    assert process.returncode == 0, said.decode()


# Answers.


def check(path: str, answer: Any) -> str:
    """Return the version of an answer, all parts of which belong together.

    :raises AssertionError: it is torn, mixed, of another page, or no page at all.
    """
    assert answer.status == 200, f"{path}: {answer.status} {answer.body[:200]!r}"
    coding = answer.get("Content-Encoding") or "identity"
    body = _decode(coding, answer.body)
    version = check_text(path, body)
    assert answer.get("X-Version") == version, f"{path}: headers of {answer.get('X-Version')}"
    assert answer.get("Content-Length") == str(len(answer.body)), f"{path}: its length"
    if answer.get("X-Prerendered"):
        tag = urlsafe_b64encode(hashlib.sha256(body).digest()[:16])[:22].decode()
        suffix = SUFFIXES[coding] and f"-{SUFFIXES[coding]}"
        assert answer.get("ETag") == f'"{tag}{suffix}"', f"{path}: the tag of another body"
    return version


def check_text(path: str, body: bytes) -> str:
    text, _, rest = body.rpartition(b"<!-- ")
    assert rest == b"%s -->" % hashlib.sha256(text).hexdigest().encode(), f"{path} is torn"
    named, _, version = text[7 : text.index(b"</title>")].decode().partition(" ")
    assert named == path, f"{path} answers with {named}"
    return version


def _decode(coding: str, body: bytes) -> bytes:
    if coding == "gzip":
        return gzip.decompress(body)
    if coding == "br":
        return brotli.decompress(body)  # type: ignore[no-any-return]
    assert coding == "identity", coding
    return body


def check_store(app: Flask, get: Callable[..., Any]) -> dict[str, str]:
    """Return the version of every page in the index, each served whole in every encoding.

    :param app: one whose views fail, as started after the accident.
    """
    store = app.extensions["prerender"].store
    versions = {}
    for page in store.pages():
        for encoding in ENCODINGS:
            answer = get(app, page.key, headers={"Accept-Encoding": encoding})
            if page.expire is None:
                versions[page.key] = check(page.key, answer)
        for variant in page.variants:
            body = store.read(page, variant)
            assert body is not None, f"{page.key}: its {variant.encoding} body is gone"
            if variant.encoding in ENCODINGS:
                check_text(page.key, _decode(variant.encoding, body))
    return versions


def check_tree(public: Path) -> None:
    """Fail unless every file of the public tree is whole, and encoded ones say the same."""
    for place in public.rglob("index.html"):
        body = place.read_bytes()
        check_text("/" + place.parent.relative_to(public).as_posix(), body)
        for encoding in ("gzip", "br"):
            encoded = place.with_name(f"index.html.{SUFFIXES[encoding]}")
            if encoded.exists():
                assert _decode(encoding, encoded.read_bytes()) == body, f"{encoded} is of another"


def leftovers(root: Path, seconds: float = 61.0) -> list[str]:
    """Sweep as one does so many seconds later, and return the files that belong to nothing."""
    store = FileStore(root, clock=lambda: time.time() + seconds)
    store.sweep()
    pages = list(store.pages())
    store.close()
    ours = {f"store/blobs/{v.digest[:2]}/{v.digest}" for page in pages for v in page.variants}
    names = [(page.file, SUFFIXES[v.encoding]) for page in pages for v in page.variants]
    ours |= {f"public/{file}.{suffix}" if suffix else f"public/{file}" for file, suffix in names}
    ours |= {f"store/{name}.sqlite3{end}" for name in ("index", "coordination") for end in _SQLITE}
    ours |= {"store/revision", "manifest.json", "last-build.json", "owner.json"}
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return sorted(files - ours)


_SQLITE = ("", "-wal", "-shm")


# Readers.


class Readers:
    """Threads that fetch pages from a server and check each answer, until the block ends.

    :param paths: gives the next path to fetch.
    :param dying: the server is being killed: an answer that never came whole is nobody's fault.
    """

    def __init__(
        self, port: int, paths: Callable[[], str], *, threads: int = 3, dying: bool = False
    ) -> None:
        self.wrong: list[str] = []
        self.answers: Counter[str] = Counter()
        self.versions: dict[str, str] = {}
        self.pids: set[int] = set()
        self._port = port
        self._paths = paths
        self._dying = dying
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int) -> None:
        """Wait until so many more answers came."""
        goal = self.answers.total() + answers
        deadline = time.monotonic() + 20
        while self.answers.total() < goal and not self.wrong:
            assert time.monotonic() < deadline, f"no answers: {self.answers}"
            time.sleep(0.002)

    def _read(self) -> None:
        encodings = itertools.cycle(ENCODINGS)
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._done.is_set() and len(self.wrong) < 5:
            path, encoding = self._paths(), next(encodings)
            try:
                answer = fetch(connection, path, {"Accept-Encoding": encoding})
                self.versions[path] = check(path, answer)
            except (OSError, HTTPException) as error:
                connection.close()
                if self._dying:
                    self.answers["lost"] += 1
                    continue
                self.wrong.append(f"{path}: {error!r}")
            except Exception as error:
                self.wrong.append(f"{path} {encoding}: {error!r}")
            else:
                self._count(answer)
        connection.close()

    def _count(self, answer: Any) -> None:
        self.answers["stored" if answer.get("X-Prerendered") else "app"] += 1
        self.answers[answer.get("Content-Encoding") or "identity"] += 1
        self.pids.add(int(answer.get("X-Pid")))


class Fetched:
    """An answer that came over a connection."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.body = status, body
        self.get: Callable[[str], str | None] = headers.get


def fetch(connection: HTTPConnection, path: str, headers: dict[str, str]) -> Fetched:
    """Fetch one page.

    :raises HTTPException: the answer did not come whole.
    """
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return Fetched(response.status, response.headers, response.read())
