"""The process beside a worker: real servers whose stale pages it makes new, and what ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import LiveServer
from conftest import ROOT
from flask_prerender import ConfigError
from flask_prerender.process import _Child
from flask_prerender.process import _interpreter
from flask_prerender.process import Process
from flask_prerender.stores.memory import MemoryStore
from herds import all_from_the_store
from herds import Herd
from herds import HERDS
from herds import Kind
from herds import OTHERS
from herds import serving
from stage import LEASE
from stage import REVALIDATE
from stage import Stage
from stage import wait_until

PATH = "/page/one"
MODE = {
    "HERD_CONFIG_PRERENDER_REGENERATE": "process",
    "HERD_CONFIG_PRERENDER_APP": "stage:create_app()",
}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.begin()
    return stage


def few(kind: str, workers: int = 2, *args: str) -> Kind:
    kinds = {**OTHERS, **HERDS}
    return kinds[kind]._replace(workers=workers, args=(*kinds[kind].args, *args))


def processes(server: LiveServer) -> dict[int, tuple[int, int]]:
    """Return parent and nice value of each process of ours, by its number."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        # In the group of the server, whoever their parent is by now.
        if int(fields[2]) == server.process.pid and b"flask_prerender.companion" in command:
            found[int(stat.parent.name)] = (int(fields[1]), int(fields[16]))
    return found


def ask_until_rendered(stage: Stage, server: LiveServer, count: int) -> int:
    """Ask for the page until so many renders have begun, and return the last one's process."""

    def rendered() -> bool:
        assert server.ask(PATH).get("X-Prerendered") == "true"
        return len(stage.renders(PATH)) >= count

    wait_until(rendered)
    return stage.renders(PATH)[-1]


def make_stale(stage: Stage, version: str) -> None:
    stage.write("version", version)
    stage.forward(REVALIDATE)


def wait_until_made(stage: Stage, server: LiveServer, version: str) -> None:
    wait_until(lambda: server.ask(PATH).body.decode() == f"{PATH} {version}")


def nice_of(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


# Who makes what.


@pytest.mark.parametrize("kind", ["gthread", "gthread preload", "gevent", "uwsgi"])
def test_a_stale_page_is_made_new_once_by_a_process_of_lower_priority(
    kind: str, stage: Stage
) -> None:
    with serving(stage, few(kind), **MODE) as server:
        workers: set[int] = set()
        wait_until(
            lambda: workers.add(int(server.ask(PATH).get("X-Pid") or 0)) or len(workers) == 2
        )
        assert processes(server) == {}
        for number in range(1, 4):
            make_stale(stage, str(number))
            stage.hold()
            maker = ask_until_rendered(stage, server, number + 1)
            parent, nice = processes(server)[maker]
            assert parent in workers
            assert nice > nice_of(parent)
            before = f"{PATH} {number - 1 or 'first'}"
            all_from_the_store(Herd(server, PATH).gather(), before)
            stage.let_go()
            wait_until_made(stage, server, str(number))
            all_from_the_store(Herd(server, PATH).gather(), f"{PATH} {number}")
        assert len(stage.renders(PATH)) == 4
        assert Counter(what for _, what in stage.noted("made")) == {PATH: 4}
    wait_until(lambda: processes(server) == {})


def test_a_process_that_meets_a_stale_page_while_it_imports_the_app_starts_no_other(
    stage: Stage,
) -> None:
    with serving(stage, few("gthread", 1), **MODE, HERD_AT_IMPORT=PATH) as server:
        worker = int(server.ask(PATH).get("X-Pid") or 0)
        make_stale(stage, "new")
        server.ask(PATH)
        wait_until_made(stage, server, "new")
        assert [parent for parent, _ in processes(server).values()] == [worker]


def test_a_first_visit_is_the_workers_own(stage: Stage) -> None:
    with serving(stage, few("gthread"), **MODE) as server:
        worker = server.ask("/page/first").get("X-Pid")
        assert stage.renders("/page/first") == [int(worker or 0)]
        assert processes(server) == {}


def test_a_page_that_fails_in_the_process_rests(stage: Stage) -> None:
    with serving(stage, few("gthread", 1), **MODE) as server:
        server.ask("/broken/page")
        stage.write("broken", "1")
        stage.forward(REVALIDATE)

        def tried() -> bool:
            assert server.ask("/broken/page").get("X-Prerendered") == "true"
            return len(stage.renders("/broken/page")) == 2

        wait_until(tried)
        wait_until(lambda: "could not be made new" in server.log.read_text())
        for _ in range(20):
            assert server.ask("/broken/page").get("X-Prerendered") == "true"
        assert len(stage.renders("/broken/page")) == 2
        (stage.folder / "broken").unlink()
        stage.forward(40.0)
        wait_until(lambda: tried() or len(stage.renders("/broken/page")) == 3)


# What ends it.


def begin_render(stage: Stage, server: LiveServer, version: str) -> int:
    before = len(stage.renders(PATH))
    stage.hold()
    make_stale(stage, version)
    return ask_until_rendered(stage, server, before + 1)


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_the_page_of_a_killed_process_is_made_by_another_when_its_claim_ends(
    kind: str, stage: Stage
) -> None:
    with serving(stage, few(kind), **MODE) as server:
        server.ask(PATH)
        maker = begin_render(stage, server, "new")
        os.kill(maker, signal.SIGKILL)
        wait_until(lambda: maker not in processes(server))
        all_from_the_store(Herd(server, PATH).gather(), f"{PATH} first")
        assert len(stage.renders(PATH)) == 2
        stage.forward(LEASE)
        assert ask_until_rendered(stage, server, 3) != maker
        assert stage.renders(PATH)[-1] in processes(server)
        stage.let_go()
        wait_until_made(stage, server, "new")
        assert len(stage.renders(PATH)) == 3
        said = server.log.read_text()
        assert "The process that makes pages new ended (SIGKILL)." in said
        assert "Exception ignored" not in said


def test_a_worker_may_fork_when_its_process_has_ended(tmp_path: Path) -> None:
    ended = _Child([sys.executable, "-c", ""], lambda code: None)
    ended.end(20.0)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    ended.leave_to_parent()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


@pytest.mark.parametrize("kind", ["gthread", "gthread that forked", "uwsgi"])
def test_a_process_never_outlives_its_worker(kind: str, stage: Stage) -> None:
    with serving(stage, few(kind.split()[0]), **MODE) as server:
        server.ask(PATH)
        maker = begin_render(stage, server, "new")
        worker, _ = processes(server)[maker]
        if "forked" in kind:
            # What a view forked goes on, with all that it did not close.
            wait_until(lambda: server.ask("/fork").get("X-Pid") == str(worker))
        os.kill(worker, signal.SIGKILL)
        # Although it renders, and nobody lets it go on.
        wait_until(lambda: maker not in processes(server))
        stage.let_go()
        # It had the time to give its claim back.
        wait_until_made(stage, server, "new")
        (stage.folder / "forks end").touch()


@pytest.mark.parametrize("kind", ["gthread", "uwsgi"])
def test_a_process_that_is_told_to_end_gives_its_claim_back(kind: str, stage: Stage) -> None:
    with serving(stage, few(kind), **MODE) as server:
        server.ask(PATH)
        maker = begin_render(stage, server, "new")
        os.kill(maker, signal.SIGTERM)  # as an init system tells all processes of a server
        wait_until(lambda: maker not in processes(server))
        assert ask_until_rendered(stage, server, 3) != maker
        stage.let_go()
        wait_until_made(stage, server, "new")
        assert "The process that makes pages new ended" not in server.log.read_text()


def test_a_process_ends_with_its_worker_while_it_imports_the_app(stage: Stage) -> None:
    with serving(stage, few("gthread", 1), **MODE) as server:
        server.ask(PATH)
        (stage.folder / "held at import").touch()
        make_stale(stage, "new")
        server.ask(PATH)
        wait_until(lambda: processes(server))
        ((maker, (worker, _)),) = processes(server).items()
        wait_until(lambda: stage.noted("imports")[-1][0] == maker)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: maker not in processes(server))
        (stage.folder / "held at import").unlink()


@pytest.mark.parametrize(
    "kind",
    [
        "gthread",
        pytest.param("gthread preload", marks=pytest.mark.long),
        pytest.param("gevent", marks=pytest.mark.long),
        "uwsgi",
    ],
)
def test_a_server_that_is_told_to_end_leaves_nothing(kind: str, stage: Stage) -> None:
    with serving(stage, few(kind), **MODE) as server:
        server.ask(PATH)
        begin_render(stage, server, "new")
        server.stop()
        wait_until(lambda: processes(server) == {})
        made = len(stage.noted("made"))
        stage.let_go()
    # What was only being rendered is left to others, at once.
    with serving(stage, few(kind), **MODE) as server:
        ask_until_rendered(stage, server, 3)
        wait_until_made(stage, server, "new")
        assert len(stage.noted("made")) == made + 1


def test_a_process_whose_render_hangs_is_ended_and_another_goes_on(stage: Stage) -> None:
    more = {**MODE, "HERD_CONFIG_PRERENDER_TIMEOUT": "1.0"}
    with serving(stage, few("gthread", 1), **more) as server:
        server.ask(PATH)
        server.ask("/page/other")
        maker = begin_render(stage, server, "new")
        wait_until(lambda: maker not in processes(server))
        stage.let_go()
        wait_until(lambda: server.ask("/page/other").body == b"/page/other new")
        assert stage.renders("/page/other")[-1] not in (maker, stage.renders("/page/other")[0])
        assert f"The render of {PATH} hangs" in server.log.read_text()


# Where there can be none.


@pytest.mark.parametrize(
    "name, reason",
    [
        ("stage:create_nothing()", "Failed to find attribute 'create_nothing'"),
        ("subprocess", "Failed to find Flask application"),
        ("broken_app:app", "ZeroDivisionError: division by zero"),
        ("other_app:app", "what it imports is another app: app.config['PAGES'], name"),
        ("ending_app:app", "it ended while it imported the app"),
    ],
)
def test_an_app_that_cannot_be_imported_is_told_once_and_a_thread_does_the_work(
    name: str, reason: str, stage: Stage
) -> None:
    (stage.folder / "broken_app.py").write_text("1 / 0\n")
    (stage.folder / "ending_app.py").write_text("import os\nos._exit(3)\n")
    (stage.folder / "other_app.py").write_text(
        "import os\nos.environ['HERD_CONFIG_PAGES'] = 'others'\n"
        "from stage import create_app\napp = create_app()\napp.name = 'other'\n"
    )
    with serving(stage, few("gthread", 1), **{**MODE, "HERD_CONFIG_PRERENDER_APP": name}) as server:
        worker = int(server.ask(PATH).get("X-Pid") or 0)
        for number in range(2):
            make_stale(stage, str(number))
            wait_until_made(stage, server, str(number))
        assert stage.renders(PATH) == [worker] * 3
        assert processes(server) == {}
    log = server.log.read_text()
    assert log.count("Pages are made new in a thread, and not in a process") == 1
    assert reason in log
    assert f"at {name!r}; PRERENDER_APP says where it is" in log


def test_nobody_answers_to_a_name_that_is_not_there(make_app, monkeypatch) -> None:
    for name in ("no_such_module:app", "no/such/file.py:app", "flask_prerender.no_such:app"):
        with pytest.raises(ConfigError, match=r"no module or file .*\(PRERENDER_APP\)"):
            make_app({"PRERENDER_REGENERATE": "process", "PRERENDER_APP": name})
    make_app({"PRERENDER_REGENERATE": "process", "PRERENDER_APP": "stage:create_app('a', 'b')"})
    monkeypatch.setenv("FLASK_APP", "neither_this")
    with pytest.raises(ConfigError, match=r"'neither_this' \(FLASK_APP\)"):
        make_app({"PRERENDER_REGENERATE": "process"})
    make_app({"PRERENDER_REGENERATE": "thread", "PRERENDER_APP": "no_such_module:app"})


def test_a_runner_and_a_store_in_memory_leave_nothing_for_a_process(make_app) -> None:
    with pytest.raises(ConfigError, match="a runner"):
        make_app({"PRERENDER_REGENERATE": "process"}, runner=print)
    with pytest.raises(ConfigError, match="in the memory of each process"):
        make_app({"PRERENDER_REGENERATE": "process"}, store=MemoryStore())


def test_an_app_that_is_a_program_is_found_by_its_file(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import os, time
        from flask import Flask
        from flask_prerender import Prerender

        app = Flask(__name__, instance_path=os.environ["INSTANCE"])
        app.config.update(PRERENDER_REGENERATE="process", PRERENDER_JITTER=0.0)
        Prerender(app)

        @app.route("/")
        @app.prerender(revalidate=0.1)
        def index():
            return str(os.getpid())

        def visit():
            return int(app.test_client().get("/").data)

        # A process that imports this must not do it as well.
        app.run = lambda: None
        if __name__ == "__main__":
            assert visit() == os.getpid()
            deadline = time.monotonic() + 30
            while visit() == os.getpid():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            print("made by another", end="")
        """)
    )
    environment = {**os.environ, "INSTANCE": str(tmp_path / "pages"), "PYTHONPATH": str(ROOT)}
    environment.pop("FLASK_APP", None)
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.returncode) == ("made by another", 0), done.stderr


def test_what_cannot_be_had_is_told_once_for_each_reason(make_app, monkeypatch, caplog) -> None:
    monkeypatch.setattr("flask_prerender.process._GIVEN_UP_SECONDS", -1.0)
    process = Process(make_app().extensions["prerender"], "subprocess", LEASE)
    for _ in range(2):
        process.prepare()
    assert caplog.text.count("Pages are made new in a thread") == 1
    monkeypatch.setattr("flask_prerender.process._interpreter", lambda: "")
    process.prepare()
    assert caplog.text.count("Pages are made new in a thread") == 2
    assert "no Python interpreter is found beside" in caplog.text
    process.close()


def test_pages_that_live_in_memory_alone_are_made_in_a_thread(make_app, caplog) -> None:
    site = make_app().extensions["prerender"]
    site.__dict__["is_read_only"] = True
    process = Process(site, "subprocess", LEASE)
    process.prepare()
    assert process.is_given_up
    assert "cannot be written, and pages live in each worker's memory" in caplog.text


def test_a_process_that_dies_again_and_again_is_started_less_and_less_often(
    make_app, caplog
) -> None:
    process = Process(make_app().extensions["prerender"], "subprocess", LEASE)
    rests = []
    for _ in range(9):
        before = time.monotonic()
        process._mourn(-signal.SIGSEGV)
        rests.append(process._again_at - before)
    wanted = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(0.9 <= rest / best < 1.11 for rest, best in zip(rests, wanted, strict=True))
    assert "The process that makes pages new ended (SIGSEGV)." in caplog.text
    # Who waits for the next one does not keep the worker from ending.
    waiting = threading.Thread(target=process.prepare)
    waiting.start()
    process.close()
    waiting.join(5.0)
    assert not waiting.is_alive()


def test_servers_that_embed_python_name_themselves_and_not_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, found in [("uwsgi", True), ("python3.11", True), ("", False)]:
        monkeypatch.setattr(sys, "executable", str(tmp_path / name) if name else "")
        monkeypatch.setattr(sys, "exec_prefix", str(tmp_path / "nowhere"))
        python = tmp_path / "python3"
        python.write_text("")
        python.chmod(0o755)
        assert bool(_interpreter()) is found, name
    monkeypatch.setattr(sys, "executable", str(tmp_path / "uwsgi"))
    assert _interpreter() == str(python)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.11")
    assert _interpreter() == "/usr/bin/python3.11"


def test_a_server_that_was_stopped_for_a_while_does_not_take_its_process_for_hung(
    stage: Stage,
) -> None:
    more = {**MODE, "HERD_CONFIG_PRERENDER_TIMEOUT": "2.0"}
    with serving(stage, few("gthread", 1), **more) as server:
        server.ask(PATH)
        maker = begin_render(stage, server, "new")
        os.killpg(server.process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        # Longer than a render may take: nothing else can tell that everybody stood still.
        wait_until(lambda: time.monotonic() > stopped + 3.0)
        stage.let_go()
        os.killpg(server.process.pid, signal.SIGCONT)
        wait_until(lambda: maker not in processes(server) or len(stage.noted("refused")) == 1)
        assert maker in processes(server)
        assert "hangs; the process" not in server.log.read_text()
