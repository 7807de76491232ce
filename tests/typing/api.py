"""The public names in all their forms. Only mypy runs this."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

from cachelib import SimpleCache
from flask import Blueprint
from flask import Flask
from flask import g
from flask import Request
from flask.views import MethodView
from werkzeug.routing import Rule

import flask_prerender
from flask_prerender import Fetched
from flask_prerender import mark
from flask_prerender import Outcome
from flask_prerender import Page
from flask_prerender import Prerender
from flask_prerender import PrerenderError
from flask_prerender import Report
from flask_prerender.coordination.local import LocalCoordination
from flask_prerender.stores.files import FileStore
from flask_prerender.stores.memory import MemoryStore

app = Flask(__name__)
blog = Blueprint("blog", __name__)

prerender = Prerender(app)
prerender = Prerender()
prerender.init_app(app)


class Rot13:
    encoding = "rot13"
    suffix = "rot13"
    version = "1"

    def compress(self, body: bytes) -> bytes:
        return body


def select(rule: Rule, view: Callable[..., object]) -> dict[str, object] | bool | None:
    return {"revalidate": 60} if rule.rule.startswith("/blog") else None


everything = Prerender(
    select=select,
    compressors=[Rot13()],
    store=MemoryStore(),
    coordination=LocalCoordination,
    clock=lambda: 0.0,
)
everything = Prerender(store=FileStore)


@app.route("/")
@mark
def above() -> str:
    return ""


@prerender.mark
@app.route("/below")
def below() -> str:
    return ""


def slugs() -> Iterator[dict[str, object]]:
    yield {"slug": "first"}


@app.route("/posts/<slug>")
@prerender.mark(
    params=slugs,
    revalidate=60,
    expire=3600,
    fallback="render",
    tags=["posts"],
    query=["page"],
    statuses=[200, 404],
    visitors="all",
    sitemap={"priority": 0.8, "changefreq": "daily"},
)
def post(slug: str) -> str:
    return slug


@blog.route("/<slug>")
@mark(params=[{"slug": "first"}], tags=lambda slug: [f"post:{slug}"], sitemap=False)
def entry(slug: str) -> str:
    return slug


@app.route("/account")
@prerender.mark(False)
def account() -> str:
    return ""


class Page_(MethodView):
    decorators = [mark(revalidate=60)]  # noqa: RUF012

    def get(self) -> str:
        return ""


prerender.mark_all(blog, revalidate=300)
prerender.mark_all("docs.*")
prerender.mark_all("admin.*", False)

with prerender.marked(revalidate=60):
    app.add_url_rule("/class", view_func=Page_.as_view("class"))

# A marked view keeps its type.
assert_type(above(), str)
assert_type(post("first"), str)


# A function whose values are kept keeps its signature.
@prerender.data
def rate(currency: str) -> float:
    return 1.0


@prerender.data(
    ttl=60,
    stale_ttl=None,
    tags=lambda sku, size=1: [sku],
    max_values=10,
    on_error=lambda error: [len(error.args)],
)
def price(sku: str, *, size: int = 1) -> list[int]:
    return [size]


@prerender.data(ttl=60, key="all", tags=["posts"], cache=SimpleCache(threshold=1000))
def posts() -> Fetched[dict[str, int]]:
    return Fetched({}, ttl=5, tags=["post:1"])


assert_type(rate("EUR"), float)
assert_type(price("a", size=2), list[int])
assert_type(posts(), dict[str, int])
price("a", 2)  # type: ignore[call-arg]
rate(1)  # type: ignore[arg-type]
rate.purge("EUR")
price.revalidate(price.key("a", size=2), "other")
posts.purge()
assert_type(rate.stats().fetched, int)


def shop(request: Request) -> str:
    return request.host


def features_of(shop: str) -> set[str]:
    return {shop}


def apply(request: Request, value: set[str]) -> None:
    g.features = value


def closed(request: Request, error: Exception) -> tuple[str, int] | None:
    return "closed", 503


features = prerender.data.pipeline(
    extract=shop, key=shop, fetch=features_of, apply=apply, on_error=closed, ttl=60
)
app.before_request(features)
prerender.data.pipeline(
    fetch=lambda extracted: 1, apply=lambda request, value: None, tags=["features"]
)


@app.route("/featured/<name>")
@features
def featured(name: str) -> str:
    return name


flask_prerender.attach_default_logger(app)
flask_prerender.signals.page_served.connect(lambda sender, **facts: None, weak=False)

assert_type(prerender.is_rendering, bool)
assert_type(flask_prerender.generate(app, ["/"], ["posts"], fail_fast=True), Report)

entries = flask_prerender.manifest.read(Path("manifest.json"))
found = flask_prerender.manifest.lookup(Path("manifest.json"), "/posts/first")


def describe(page: Page, outcome: Outcome, report: Report) -> str:
    return f"{page.key} {page.status} {page.size} {outcome} {report}"


try:
    prerender.init_app(app)
except PrerenderError as error:
    print(error)
