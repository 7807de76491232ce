"""What a WSGI server is given: ``gunicorn example_app.wsgi:app``."""

from __future__ import annotations

from . import create_app

app = create_app()
