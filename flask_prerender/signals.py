"""What others may listen to.

The sender is always the Flask application. Facts come as keywords, and more may come in later
versions, so a receiver takes ``**extra``. Durations are seconds. A receiver that raises is logged
and changes nothing.
"""

from __future__ import annotations

import logging
import typing as t
import weakref

from blinker import NamedSignal
from blinker import Namespace

if t.TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger("flask_prerender")

_signals = Namespace()

generate_started = _signals.signal("generate-started")
"""A build begins. Facts: ``total`` (pages to make)."""

generate_finished = _signals.signal("generate-finished")
"""A build is over. Facts: ``report`` (:class:`~flask_prerender.Report`), ``duration``."""

render_started = _signals.signal("render-started")
"""A URL is about to be rendered. Facts: ``key``."""

render_finished = _signals.signal("render-finished")
"""A URL was rendered. Facts: ``key``, ``status``, ``size``, ``duration``."""

render_failed = _signals.signal("render-failed")
"""A view raised, or took too long. Facts: ``key``, ``error``, ``duration``."""

page_published = _signals.signal("page-published")
"""A page was stored. Facts: ``key``, ``page``, ``changed`` (false when the bytes were the same),
``duration``."""

page_refused = _signals.signal("page-refused")
"""A response was not stored. Facts: ``key``, ``reason``, ``detail``."""

page_removed = _signals.signal("page-removed")
"""A stored page was taken away. Facts: ``key``, ``reason``."""

regenerate_started = _signals.signal("regenerate-started")
"""A stale page is about to be made new in the background. Facts: ``key``."""

regenerate_finished = _signals.signal("regenerate-finished")
"""A stale page was rendered again. Facts: ``key``, ``result``, ``duration``."""

regenerate_failed = _signals.signal("regenerate-failed")
"""A page could not be made new and rests; the one stored before is served on. Facts: ``key``,
``reason``, ``failures`` (in a row)."""

pages_revoked = _signals.signal("pages-revoked")
"""Pages were taken back. Facts: ``tags``, ``hard``, ``revision``."""

page_evicted = _signals.signal("page-evicted")
"""A page of a first visit made room for others. Facts: ``key``, ``reason``."""

page_unstorable = _signals.signal("page-unstorable")
"""A first visit could not be stored, and nobody waits for that key for a while. Facts: ``key``,
``reason``, ``seconds``."""

page_served = _signals.signal("page-served")
"""A stored page answered a request. Facts: ``key``, ``source`` (``"memory"`` or ``"store"``),
``state`` (``"fresh"`` or ``"stale"``), ``status``, ``encoding``."""

pages_prewarmed = _signals.signal("pages-prewarmed")
"""Pages were loaded into memory after the start. Facts: ``count``, ``duration``."""

SIGNALS: dict[str, NamedSignal] = dict(sorted(_signals.items()))


#: A process that renders for a build keeps what it would send: the build sends it.
_diverted: list[tuple[str, dict[str, object]]] | None = None


def divert() -> list[tuple[str, dict[str, object]]]:
    """Call no receiver in this process from now on; return the list that gets every name and its
    facts instead."""
    global _diverted
    _diverted = []
    return _diverted


def send(signal: NamedSignal, app: Flask, **facts: object) -> None:
    """Call every receiver; log the one that raises, and go on with the next."""
    if _diverted is not None:
        _diverted.append((signal.name, facts))
        return
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(app):
        try:
            receiver(app, **facts)
        except Exception:
            log.exception("A receiver of the signal %r raised", signal.name)


_logged: weakref.WeakSet[Flask] = weakref.WeakSet()
_QUIET = {"render-started", "render-finished", "page-served"}


def attach_default_logger(app: Flask) -> None:
    """Write each signal of `app` to the logger ``flask_prerender``.

    Refusals and failures are warnings, builds and changes are information, and what happens for
    each request or render is for debugging.
    """
    if app in _logged:
        return
    _logged.add(app)

    def listener(name: str) -> t.Callable[..., None]:
        if name in ("page-refused", "render-failed"):
            level = logging.WARNING
        else:
            level = logging.DEBUG if name in _QUIET else logging.INFO

        def write(sender: object, **facts: object) -> None:
            if log.isEnabledFor(level):
                told = (item for item in facts.items() if item[0] != "page")
                brief = (f"{fact}={_brief(value)}" for fact, value in told)
                log.log(level, "%s %s", name, " ".join(brief))

        return write

    for name, signal in SIGNALS.items():
        signal.connect(listener(name), sender=app, weak=False)


def _brief(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
