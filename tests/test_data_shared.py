"""Values that processes share: one fetch for all of them."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cachelib import FileSystemCache
from cachelib import SimpleCache

from conftest import wait_for_our_threads
from flask_prerender import DataError
from flask_prerender import Prerender
from flask_prerender import StoreError
from sources import at_once
from sources import error_of
from sources import SECONDS
from sources import Source
from sources import wait_until

WORKERS, THREADS = 3, 8


class Worker:
    """What a process has of its own: an app, and locks and memory. Store and cache are shared."""

    def __init__(self, app, cache, clock, source, **options):
        self.app = app
        self.value = Prerender(clock=clock).data(name="v", cache=cache, **options)(source)

    def __call__(self, *args):
        with self.app.app_context():
            return self.value(*args)

    def stats(self):
        with self.app.app_context():
            return self.value.stats()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def make_worker(make_app, tmp_path, clock):
    def make(source, config=None, **options):
        cache = FileSystemCache(str(tmp_path / "cache"), threshold=1000)
        return Worker(make_app(config), cache, clock, source, **options)

    return make


def leases(worker):
    database = worker.app.extensions["prerender"].coordination._database
    return database.read("SELECT key, failures FROM leases")


def test_workers_that_share_a_cache_share_the_fetch_of_an_absent_value(make_worker, source):
    workers = [make_worker(source) for _ in range(2)]
    source.go.clear()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(worker) for worker in workers * 2]
        assert source.entered.wait(SECONDS)
        wait_until(lambda: sum(worker.stats().shared for worker in workers) == 2)
        source.go.set()
        assert [one.result(SECONDS) for one in asked] == ["x1"] * 4
    assert len(source.calls) == 1
    assert leases(workers[0]) == []


def test_workers_that_share_a_cache_share_the_fetch_of_a_stale_value(
    make_worker, source, clock, monkeypatch
):
    one, other = make_worker(source, ttl=60), make_worker(source, ttl=60)
    assert (one(), other()) == ("x1", "x1")
    asked = []
    coordination = other.app.extensions["prerender"].coordination
    claim = coordination.claim
    monkeypatch.setattr(
        coordination, "claim", lambda *args, **options: asked.append(1) or claim(*args, **options)
    )
    clock.forward(60)
    source.go.clear()
    source.entered.clear()
    assert one() == "x1"
    assert source.entered.wait(SECONDS)
    for _ in range(5):
        assert other() == "x1"
        wait_until(lambda: len(other.value._home.flights) == 0)
    # Nor does it ask at each call whether the other one is still at it.
    assert len(asked) == 1
    source.go.set()
    wait_for_our_threads()
    assert (one(), other()) == ("x2", "x2")
    assert len(source.calls) == 2


def test_who_claims_a_stale_value_after_it_was_made_new_does_not_fetch_it(
    make_worker, source, clock, monkeypatch
):
    one, other = make_worker(source, ttl=60), make_worker(source, ttl=60)
    one()
    clock.forward(60)
    with other.app.app_context():
        turns = other.value._source()._turns
    take = turns.take

    def late(*args, **options):
        one()
        wait_until(lambda: one() == "x2")
        wait_until(lambda: leases(one) == [])
        return take(*args, **options)

    monkeypatch.setattr(turns, "take", late)
    assert other() == "x1"
    wait_for_our_threads()
    assert other() == "x2"
    assert len(source.calls) == 2


def test_values_in_the_memory_of_a_process_need_no_claim(make_worker, source, clock):
    one = make_worker(source)
    one.value = Prerender(clock=clock).data(cache=SimpleCache(1000))(source)
    assert one() == "x1"
    assert not (one.app.extensions["prerender"].path / "store").exists()


def test_a_failure_behind_one_worker_lets_the_value_rest_in_all(make_worker, source, clock, caplog):
    caplog.set_level("INFO", "flask_prerender")
    one, other = make_worker(source, ttl=60), make_worker(source, ttl=60)
    one()
    clock.forward(60)
    source.error = ValueError("no")

    def ask(worker, text):
        assert worker() == text
        wait_for_our_threads()

    ask(one, "x1")
    for _ in range(20):
        clock.forward(1)
        ask(other, "x1")
    assert len(source.calls) == 2
    # The streak is one, whoever counts it, and so is its line in the log.
    clock.forward(20)
    ask(other, "x1")
    assert len(source.calls) == 3
    assert leases(one)[0][1] == 2
    assert caplog.text.count("could not be fetched: ValueError('no')") == 1
    source.error = None
    clock.forward(70)
    ask(one, "x1")
    ask(other, "x4")
    assert caplog.text.count("v('x') is fetched again") == 1
    assert leases(one) == []


def test_a_rest_is_no_reason_to_wait_for_a_value_that_has_expired(make_worker, source, clock):
    one, other = (make_worker(source, ttl=60, stale_ttl=1) for _ in range(2))
    one()
    clock.forward(60)
    source.error = ValueError("no")
    one()
    wait_for_our_threads()
    clock.forward(1)
    source.error = None
    assert other() == "x3"


def test_who_waits_for_another_worker_that_fails_fetches_in_turn(make_worker, source):
    one, other = make_worker(source), make_worker(source)
    source.go.clear()
    source.error = ValueError("no")
    errors = []
    first = threading.Thread(target=lambda: errors.append(error_of(one)))
    first.start()
    assert source.entered.wait(SECONDS)
    second = threading.Thread(target=lambda: errors.append(error_of(other)))
    second.start()
    wait_until(lambda: len(other.value._home.flights) == 1)
    assert len(source.calls) == 1
    source.go.set()
    first.join(SECONDS), second.join(SECONDS)
    assert errors == [source.error] * 2
    assert len(source.calls) == 2


def test_who_waits_too_long_for_another_worker_gives_up(make_worker, source):
    one = make_worker(source)
    other = make_worker(source, {"PRERENDER_TIMEOUT": 0.1})
    source.go.clear()
    first = threading.Thread(target=one)
    first.start()
    assert source.entered.wait(SECONDS)
    with pytest.raises(DataError, match=r"v\('x'\) was not there in time"):
        other()
    source.go.set()
    first.join(SECONDS)
    assert other() == "x1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_the_fetch_of_a_worker_that_was_killed_is_anothers(make_worker, source, clock):
    one, other = make_worker(source), make_worker(source)
    inside, claimed = os.pipe()
    child = os.fork()
    if not child:
        os.close(inside)
        one.value._function = lambda key="x": os.write(claimed, b"!") and os.kill(os.getpid(), 9)
        one()
        os._exit(1)
    os.close(claimed)
    assert os.read(inside, 1) == b"!"
    os.close(inside)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert len(leases(other)) == 1
    results = []
    waiting = threading.Thread(target=lambda: results.append(other()))
    waiting.start()
    wait_until(lambda: len(other.value._home.flights) == 1)
    assert source.calls == []
    clock.forward(15)
    waiting.join(SECONDS)
    assert results == ["x1"]


def test_a_worker_that_slept_through_the_end_of_its_claim_keeps_nothing(make_worker, source, clock):
    other = Source()
    one, two = make_worker(source), make_worker(lambda key="x": f"newer {other()}")
    source.go.clear()
    results = []
    asleep = threading.Thread(target=lambda: results.append(one()))
    asleep.start()
    assert source.entered.wait(SECONDS)
    clock.forward(15)
    assert two() == "newer x1"
    source.go.set()
    asleep.join(SECONDS)
    # Who asked is answered, and nobody else.
    assert results == ["x1"]
    assert (one(), two()) == ("newer x1", "newer x1")


def test_where_no_claim_can_be_written_each_worker_fetches(
    make_worker, source, monkeypatch, caplog
):
    one = make_worker(source, ttl=60)

    def refuse(*args, **options):
        raise StoreError("the disk is full")

    state = one.app.extensions["prerender"]
    monkeypatch.setattr(state.coordination, "claim", refuse)
    assert [one(), one(), one("y")] == ["x1", "x1", "y2"]
    assert caplog.text.count("v is fetched by each process: the disk is full") == 1


SITE = """
import os, threading, time
from pathlib import Path
from cachelib import FileSystemCache
from flask import Flask
from flask_prerender import Prerender

folder = Path(__file__).parent
app = Flask(__name__, instance_path=str(folder / "instance"))
prerender = Prerender(app, clock=lambda: float((folder / "clock").read_text()))

@prerender.data(ttl=60, cache=FileSystemCache(str(folder / "cache"), threshold=1000))
def value(key):
    descriptor = os.open(folder / "fetches", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{key}\\n".encode())
    os.close(descriptor)
    while (folder / "held").exists():
        time.sleep(0.01)
    return f"{key} {(folder / 'version').read_text()}"

@app.route("/<key>")
def show(key):
    return f"{os.getpid()} {value(key)}"
"""


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["--worker-class", "gthread", "--threads", str(THREADS)], id="threads"),
        pytest.param(
            ["--worker-class", "gthread", "--threads", str(THREADS), "--preload"], id="preload"
        ),
        pytest.param(["--worker-class", "gevent"], id="gevent"),
    ],
)
def test_real_workers_fetch_a_value_once_for_all_of_them(live_server, tmp_path, args):
    def write(name, text):
        (tmp_path / f"{name}.new").write_text(text)
        (tmp_path / f"{name}.new").replace(tmp_path / name)

    def fetches(key):
        return (tmp_path / "fetches").read_text().split().count(key)

    def ask(key):
        process, text = server.ask(f"/{key}").body.decode().split(" ", 1)
        seen.add(process)
        return text

    seen = set()
    write("clock", "1800000000.0")
    write("version", "first")
    write("fetches", "")
    server = live_server(SITE, workers=WORKERS, args=args)

    # Absent: all wait for one.
    (tmp_path / "held").touch()
    with ThreadPoolExecutor(WORKERS * THREADS) as pool:
        asked = [pool.submit(ask, "a") for _ in range(WORKERS * THREADS)]
        wait_until(lambda: fetches("a") == 1)
        (tmp_path / "held").unlink()
        assert [one.result(SECONDS) for one in asked] == ["a first"] * len(asked)
    assert fetches("a") == 1
    # A client of its own for each, so that all workers are asked.
    wait_until(lambda: ask("a") == "a first" and len(seen) == WORKERS)

    # Stale: nobody waits, and one fetches.
    (tmp_path / "held").touch()
    write("version", "second")
    write("clock", "1800000060.0")
    assert at_once(30, lambda: ask("a")) == ["a first"] * 30
    wait_until(lambda: fetches("a") == 2)
    (tmp_path / "held").unlink()
    wait_until(lambda: ask("a") == "a second")
    assert at_once(30, lambda: ask("a")) == ["a second"] * 30
    assert fetches("a") == 2
