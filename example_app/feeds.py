"""What programs read: a feed of the modules, and the site as a search engine."""

from __future__ import annotations

from flask import Blueprint
from flask import make_response
from flask import render_template
from flask import Response

from .catalogue import catalogue
from .extensions import prerender

bp = Blueprint("feeds", __name__)


@bp.route("/feed.xml")
@prerender.mark(revalidate=86400, sitemap=False)
def feed() -> Response:
    return _xml("feed.xml", "application/rss+xml")


@bp.route("/opensearch.xml")
@prerender.mark(sitemap=False)
def opensearch() -> Response:
    return _xml("opensearch.xml", "application/opensearchdescription+xml")


def _xml(template: str, mimetype: str) -> Response:
    response = make_response(render_template(template, modules=catalogue().modules))
    response.mimetype = mimetype
    return response
