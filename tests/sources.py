"""Where the values of tests come from, and what it takes to see how often they are asked for."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

from flask import Flask

from conftest import wait_for_our_threads
from flask_prerender import Prerender

SECONDS = 20.0


@contextmanager
def a_site(tmp_path, clock, **config):
    """An app with everything on it; ``site.prerender`` is the instance."""

    class Site:
        prerender = Prerender(clock=clock)
        app = Flask("site", root_path=str(tmp_path), instance_path=str(tmp_path / "instance"))

        def page(self, key):
            return self.app.extensions["prerender"].store.get(key)

        def get(self, path):
            return self.app.test_client().get(path).text

    (tmp_path / "instance").mkdir()
    Site.app.config.from_mapping(PRERENDER_JITTER=0.0, **config)
    Site.prerender.init_app(Site.app)
    yield Site()
    wait_for_our_threads()
    Site.app.extensions["prerender"].close()


class Source:
    """Where values come from: it counts, waits when it is told to, and fails when it is told to."""

    def __init__(self):
        self.calls = []
        self.error = None
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, key="x"):
        self.calls.append(key)
        number = len(self.calls)
        self.entered.set()
        assert self.go.wait(SECONDS)
        if self.error:
            raise self.error
        return f"{key}{number}"


def at_once(count, call):
    """Call in many threads, all at the same moment, and return what each got or raised."""
    start, results = threading.Barrier(count), []

    def run():
        start.wait(SECONDS)
        results.append(error_of(call))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(results) == count
    return results


def error_of(call):
    try:
        return call()
    except Exception as error:
        return error


def wait_until(true):
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def a_coroutine():
    return 1
