"""An example: a reference of Python's own standard library, thousands of pages from any Python.

Its pages are marked for prerendering; search and what visitors write stay with the app.
"""

from __future__ import annotations

from typing import Any

from flask import Flask

from . import feeds
from . import library
from . import missing
from . import notes
from .extensions import db
from .extensions import prerender

DEFAULTS = {
    "SECRET_KEY": "dev",
    "SQLALCHEMY_DATABASE_URI": "sqlite:///notes.sqlite3",
    "MAX_CONTENT_LENGTH": 64 * 1024,
    "PRERENDER_BASE_URL": "http://127.0.0.1:8000",
}


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """Make the site.

    :param config: wins over the environment (``FLASK_SECRET_KEY``, ``FLASK_PRERENDER_BASE_URL``),
        which wins over the defaults.
    """
    app = Flask(__name__)
    app.config.from_mapping(DEFAULTS)
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    prerender.init_app(app)
    db.init_app(app)
    app.register_blueprint(library.bp)
    app.register_blueprint(notes.bp)
    app.register_blueprint(feeds.bp)
    app.register_error_handler(404, missing.not_found)
    return app
