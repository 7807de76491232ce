"""What a fresh process does beside its first request: fill its memory, sweep the store."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

from . import signals
from .address import refusal
from .errors import StoreError
from .serve import Server
from .site import Site


def start(site: Site, server: Server) -> None:
    """Do what a fresh process has to do, beside its first request."""
    site.is_started = True
    if not site.has_hosts and (reason := refusal(site.app, site.render_environ)):
        site.complain("host", "%s", reason)
    # Where it may not be read, either: no error.
    if not os.path.isdir(site.output):  # noqa: PTH112
        return
    thread = threading.Thread(
        target=_tidy_and_prewarm, args=(site, server), name="prerender-start", daemon=True
    )
    with suppress(
        RuntimeError
    ):  # out of threads: the page that is asked for is served all the same
        thread.start()


def _tidy_and_prewarm(site: Site, server: Server) -> None:
    started = time.perf_counter()
    count = 0
    try:
        if site.settings.prewarm not in ("none", 0):
            for page in site.store.pages():
                full = site.memory.weight > site.memory.limit * 9 // 10
                if full or count == site.settings.prewarm:
                    break
                count += server.load(page.key)
            duration = time.perf_counter() - started
            signals.send(signals.pages_prewarmed, site.app, count=count, duration=duration)
        site.store.sweep()
    except Exception as error:
        site.complain(
            "start",
            "the store could not be prepared after the start: %s",
            error,
            exc_info=not isinstance(error, StoreError),
        )
