"""Pages that a build packs smaller than those that are made for visitors."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
from flask import Flask

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender.compress import Brotli
from flask_prerender.compress import make_compressor
from flask_prerender.page import Page
from flask_prerender.publish import publish
from flask_prerender.render import request_environ
from flask_prerender.stores.files import FileStore

MakeApp = Callable[..., Flask]

FAST, SMALL = "br-5,gzip-6", "br-11,gzip-6"
LEVELS = {"br": 5, "gzip": 6}
WORDS = [f"<b>word{n}</b>" for n in range(400)]
TEXT = " ".join(random.Random(5).choices(WORDS, k=1000))


class Sites:
    """Processes of one site, whose view answers `text`, built and visited."""

    def __init__(self, make_app: MakeApp) -> None:
        self._make_app = make_app
        self.text = TEXT

    def app(self, build: dict[str, int] | None = None, **config: Any) -> Flask:
        settings = {"PRERENDER_COMPRESS": LEVELS, "PRERENDER_COMPRESS_BUILD": build or {}}
        app = self._make_app({**settings, **config})
        app.add_url_rule("/", "home", mark(lambda: self.text))
        return app


@pytest.fixture
def sites(make_app: MakeApp) -> Sites:
    return Sites(make_app)


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was packed with Brotli, by version."""
    counts: Counter[str] = Counter()
    compress = Brotli.compress

    def count(self: Brotli, body: bytes) -> bytes:
        counts[self.version] += 1
        return compress(self, body)

    monkeypatch.setattr(Brotli, "compress", count)
    return counts


def build(app: Flask) -> dict[str, int]:
    report = generate(app)
    assert report.is_good, report.to_dict()
    return report.counts


def make(app: Flask, origin: str, key: str = "/") -> str:
    """Make a page as a visitor or a regeneration does, and return what became of it."""
    site = app.extensions["prerender"]
    target = site.routes.match(request_environ(site, key), key)
    return publish(site, target, origin=origin).result


def stored(app: Flask, key: str = "/") -> Page:
    page: Page | None = app.extensions["prerender"].store.get(key)
    assert page is not None
    return page


def body(app: Flask, encoding: str) -> bytes:
    page = stored(app)
    (variant,) = (one for one in page.variants if one.encoding == encoding)
    found: bytes | None = app.extensions["prerender"].store.read(page, variant)
    assert found is not None
    return found


def files(app: Flask) -> dict[str, tuple[int, int]]:
    """Return inode and time of every file with a body."""
    root: Path = app.extensions["prerender"].output
    return {
        str(file): (file.stat().st_ino, file.stat().st_mtime_ns)
        for place in ("public", "store/blobs")
        for file in (root / place).rglob("*")
        if file.is_file()
    }


def test_a_build_packs_small_and_a_visit_packs_fast(sites: Sites) -> None:
    app = sites.app({"br": 11})
    assert make(app, "visit") == "published"
    assert stored(app).compressors == FAST
    fast = body(app, "br")
    assert build(app) == {"published": 1}
    assert stored(app).compressors == SMALL
    assert len(body(app, "br")) < len(fast)
    assert brotli.decompress(body(app, "br")).decode() == TEXT
    assert [v.encoding for v in stored(app).variants] == ["identity", "br", "gzip"]


def test_a_second_build_packs_nothing_and_writes_nothing(
    sites: Sites, packed: Counter[str]
) -> None:
    app = sites.app({"br": 11})
    build(app)
    before, page = files(app), stored(app)
    assert packed == {"br-11": 1}
    assert any(name.endswith("index.html.br") for name in before)
    assert build(sites.app({"br": 11})) == {"unchanged": 1}
    assert packed == {"br-11": 1}
    assert (files(app), stored(app).variants) == (before, page.variants)


def test_a_page_that_is_made_again_the_same_keeps_its_small_variants(
    sites: Sites, packed: Counter[str]
) -> None:
    app = sites.app({"br": 11})
    build(app)
    before = files(app)
    assert make(app, "regenerate") == "unchanged"
    assert (packed, stored(app).compressors, files(app)) == ({"br-11": 1}, SMALL, before)
    assert build(app) == {"unchanged": 1}
    assert packed == {"br-11": 1}


def test_a_page_that_changed_is_packed_fast_until_the_next_build(
    sites: Sites, packed: Counter[str]
) -> None:
    app = sites.app({"br": 11})
    build(app)
    sites.text = TEXT[::-1]
    assert make(app, "regenerate") == "published"
    assert (stored(app).compressors, packed) == (FAST, {"br-11": 1, "br-5": 1})
    changed = stored(app).changed_at
    assert build(app) == {"published": 1}
    assert (stored(app).compressors, stored(app).changed_at) == (SMALL, changed)
    assert build(app) == {"unchanged": 1}
    assert packed == {"br-11": 2, "br-5": 1}


def test_a_page_of_a_first_visit_is_packed_small_by_the_next_build(sites: Sites) -> None:
    app = sites.app({"br": 11})
    app.add_url_rule("/<name>", "named", mark(params=[{"name": "a"}])(lambda name: sites.text))
    assert make(app, "visit", "/b") == "published"
    assert stored(app, "/b").compressors == FAST
    build(app)
    assert {key: stored(app, key).compressors for key in ("/", "/a", "/b")} == {
        "/": SMALL, "/a": SMALL, "/b": SMALL,
    }  # fmt: skip
    assert stored(app, "/b").origin == "visit"


def test_without_the_option_the_next_build_packs_as_visits_do(sites: Sites) -> None:
    build(sites.app({"br": 11}))
    app = sites.app()
    assert build(app) == {"published": 1}
    assert stored(app).compressors == FAST


def test_the_same_level_is_no_other_one(sites: Sites) -> None:
    assert build(sites.app()) == {"published": 1}
    assert build(sites.app({"br": 5})) == {"unchanged": 1}


def test_a_build_may_pack_with_more_codecs_or_alone(sites: Sites) -> None:
    app = sites.app({"zstd": 19})
    build(app)
    assert stored(app).compressors == "br-5,zstd-19,gzip-6"
    app = sites.app({"br": 11}, PRERENDER_COMPRESS=False)
    build(app)
    assert stored(app).compressors == "br-11"
    assert make(app, "regenerate") == "unchanged"
    sites.text = TEXT[::-1]
    assert make(app, "regenerate") == "published"
    assert [v.encoding for v in stored(app).variants] == ["identity"]


@pytest.mark.parametrize(("origin", "signature"), [("build", SMALL), ("regenerate", FAST)])
def test_a_damaged_variant_is_packed_anew_at_the_level_of_who_makes_it(
    sites: Sites, origin: str, signature: str
) -> None:
    app = sites.app({"br": 11})
    build(app)
    page = stored(app)
    root: Path = app.extensions["prerender"].output / "store" / "blobs"
    for file in root.rglob(f"{page.variants[1].digest}*"):
        file.unlink()
    if origin == "build":
        build(app)
    else:
        make(app, origin)
    assert stored(app).compressors == signature
    assert brotli.decompress(body(app, "br")).decode() == TEXT


APP = """
from flask import Flask
from flask_prerender import Prerender

app = Flask(__name__)
app.config.update(
    PRERENDER_PATH=__file__ + ".pages",
    PRERENDER_COMPRESS={"br": 5, "gzip": 6},
    PRERENDER_COMPRESS_BUILD={"br": 11},
)
prerender = Prerender(app)

@app.get("/<int:number>")
@prerender.mark(params=[{"number": number} for number in range(10)])
def page(number):
    return f"page {number} " * 500
"""


def test_processes_of_a_build_pack_small_and_once(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(APP)
    command = [sys.executable, "-m", "flask", "--app", file, "prerender", "--processes", "2"]
    for result in ("published", "unchanged"):
        done = subprocess.run(
            [*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["counts"] == {result: 10}
        store = FileStore(Path(f"{file}.pages"))
        pages = list(store.pages())
        assert [page.compressors for page in pages] == [SMALL] * 10
        for page in pages:
            packed = store.read(page, page.variants[1])
            assert packed is not None
            assert packed == make_compressor("br", 11).compress(brotli.decompress(packed))
        store.close()
