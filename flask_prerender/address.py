"""Under which address the site is known, and what every render says of its visitor."""

from __future__ import annotations

import typing as t
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.sansio.utils import host_is_trusted

from .settings import Settings


def base_url(app: Flask, settings: Settings) -> tuple[str, str]:
    """Return scheme, host and mount path as one URL, and the mount path alone."""
    url = settings.base_url
    if url is None:
        root = str(app.config["APPLICATION_ROOT"]).rstrip("/")
        host = app.config["SERVER_NAME"] or "localhost"
        url = f"{app.config['PREFERRED_URL_SCHEME']}://{host}{root}"
    return url, urlsplit(url).path


def render_environ(address: str, script_name: str, settings: Settings) -> dict[str, t.Any]:
    """Return what the WSGI environ of every render has in common: one configured visitor."""
    url = urlsplit(address)
    environ: dict[str, t.Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": script_name,
        "SERVER_NAME": url.hostname or "localhost",
        "SERVER_PORT": str(url.port or (443 if url.scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": url.netloc,
        "HTTP_ACCEPT": "*/*",
        "HTTP_USER_AGENT": settings.user_agent,
        "REMOTE_ADDR": settings.remote_addr,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": url.scheme,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if settings.accept_language:
        environ["HTTP_ACCEPT_LANGUAGE"] = settings.accept_language
    return environ


def refusal(app: Flask, environ: t.Mapping[str, t.Any]) -> str:
    """Return why the app would refuse every render, and what to do, or ``""``."""
    trusted, host = app.config.get("TRUSTED_HOSTS"), environ["HTTP_HOST"]
    if not trusted or host_is_trusted(host, trusted):
        return ""
    return (
        f"Renders come to the host {host!r}, which TRUSTED_HOSTS does not name, so the app answers "
        "400 to each. Set PRERENDER_BASE_URL to the address of the site, such as "
        "'https://example.com'."
    )
