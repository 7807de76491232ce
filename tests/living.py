"""A page that lives, and what it takes to see it do so."""

from __future__ import annotations

import time

from flask import request

SECONDS = 20.0


def site_of(app):
    return app.extensions["prerender"]


def settle(app):
    """Wait until nothing is being made new."""
    regenerator = site_of(app).regenerator
    deadline = time.monotonic() + SECONDS
    while regenerator.backlog.queue or any(worker.key for worker in regenerator.backlog.workers):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_until(true):
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class View:
    """A page that says how often it was rendered, or does what the test tells it."""

    def __init__(self, app, rule="/page", **options):
        self.renders = 0
        self.visits = 0
        self.does = None

        @app.route(rule, endpoint=options.pop("endpoint", "page"))
        @app.prerender(**{"revalidate": 60, **options})
        def page(**values):
            if "flask_prerender.render" not in request.environ:
                self.visits += 1
                return self.does() if self.does else "for one visitor"
            self.renders += 1
            return self.does() if self.does else f"render {self.renders}"


def heard_of(app, signal_):
    """Return the list to which the facts of a signal are added."""
    heard = []

    def hear(sender, **facts):
        heard.append(facts)

    signal_.connect(hear, sender=app)
    heard.append(hear)  # receivers are held weakly
    return heard
