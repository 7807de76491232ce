"""``flask prerender``: options, output, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask import render_template
from flask import Response

from conftest import Answer
from conftest import Clock
from conftest import LiveServer
from conftest import ROOT
from flask_prerender import manifest
from flask_prerender import mark
from flask_prerender import Prerender

MakeApp = Callable[..., Flask]


def run(app: Flask, *args: str) -> Result:
    result: Result = app.test_cli_runner().invoke(args=["prerender", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def site(app: Flask) -> Any:
    return app.extensions["prerender"]


def keys(app: Flask) -> list[str]:
    return [page.key for page in site(app).store.pages()]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """A site of five pages."""
    return small_site(make_app())


def small_site(app: Flask) -> Flask:
    def posts() -> Iterator[dict[str, str]]:
        yield from ({"slug": slug} for slug in ("one", "two", "three"))

    app.add_url_rule("/", "home", mark(lambda: "home"))
    app.add_url_rule("/about", "about", mark(tags=["team"], revalidate=60)(lambda: "about"))
    app.add_url_rule(
        "/posts/<slug>",
        "post",
        mark(params=posts, tags=lambda slug: [f"post:{slug}"], visitors="bots")(lambda slug: slug),
    )
    app.add_url_rule("/contact", "contact", lambda: "contact")
    return app


ALL = ["/", "/about", "/posts/one", "/posts/three", "/posts/two"]


# Building.


def test_it_builds_and_says_what_it_did(app: Flask) -> None:
    result = run(app)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "5 pages published, 0 unchanged, 0 refused, 0 failed, 0 removed, in" in result.stdout
    assert re.search(r"in [0-9.]+ s \([0-9]+ pages/s, [0-9]+ B\)\.", result.stdout)
    assert f"Written to {site(app).output}." in result.stdout
    assert keys(app) == ALL


def test_it_says_how_to_get_a_sitemap(app: Flask, make_app: MakeApp) -> None:
    assert "No sitemap.xml: its addresses are absolute. Set PRERENDER_BASE_URL" in run(app).stdout
    for config in ({"PRERENDER_BASE_URL": "https://a.example"}, {"PRERENDER_SITEMAP": False}):
        assert "No sitemap.xml" not in run(small_site(make_app(config))).stdout


def test_a_second_build_says_that_nothing_changed(app: Flask) -> None:
    run(app)
    assert "0 pages published, 5 unchanged" in run(app).stdout


def test_path_builds_only_these_pages(app: Flask) -> None:
    result = run(app, "--path", "/about", "--path", "/posts/t*", "--path", "/posts/unlisted")
    assert result.exit_code == 0
    assert "4 pages published" in result.stdout
    assert keys(app) == ["/about", "/posts/three", "/posts/two", "/posts/unlisted"]
    listed = manifest.read(site(app).output / "manifest.json").pages
    assert sorted(listed) == keys(app)
    assert listed["/posts/unlisted"].options["visitors"] == "bots"


@pytest.mark.parametrize("path", ["/nothing", "/contact", "/posts", "/x*"])
def test_a_path_of_no_page_is_an_error(app: Flask, path: str) -> None:
    result = run(app, "--path", path)
    assert result.exit_code == 1
    assert f"error: {path} belongs to no marked route, or names no page." in result.stderr
    assert "flask prerender routes --urls" in result.stderr
    assert keys(app) == []


def test_a_wrong_path_does_not_keep_the_others_from_being_built(app: Flask) -> None:
    result = run(app, "--path", "/nothing", "--path", "/about")
    assert result.exit_code == 1
    assert "1 pages published" in result.stdout
    assert keys(app) == ["/about"]


def test_tag_builds_only_pages_with_it(app: Flask) -> None:
    result = run(app, "--tag", "post:two", "--tag", "team")
    assert result.exit_code == 0
    assert keys(app) == ["/about", "/posts/two"]


def test_style_is_used_and_remembered(app: Flask, make_app: MakeApp) -> None:
    assert run(app, "--style", "file").exit_code == 0
    assert (site(app).public / "about.html").read_text() == "about"
    assert manifest.read(site(app).output / "manifest.json").style == "file"
    later = small_site(make_app())
    assert site(later).style == "file"
    later.test_client().get("/posts/visited", headers={"User-Agent": "Googlebot"})
    assert (site(later).public / "posts/visited.html").read_text() == "visited"
    # A part of a build keeps to it, a full build does what the settings say.
    run(later, "--path", "/about")
    assert (site(later).public / "about.html").exists()
    run(later)
    assert not (site(later).public / "about.html").exists()
    assert (site(later).public / "about/index.html").read_text() == "about"


def test_a_style_that_does_not_exist_is_named(app: Flask) -> None:
    result = run(app, "--style", "pretty")
    assert result.exit_code == 2
    assert "'pretty'" in result.stderr
    assert "'dir_index', 'file'" in result.stderr
    assert not site(app).output.exists()


def test_output_is_used_and_remembered(app: Flask, make_app: MakeApp, tmp_path: Path) -> None:
    # Relative to where the command is given, not to the instance folder.
    result = run(app, "--output", "elsewhere")
    assert result.exit_code == 0
    assert f"Written to {tmp_path / 'elsewhere'}." in result.stdout
    assert (tmp_path / "elsewhere/public/about/index.html").read_text() == "about"
    assert (tmp_path / "elsewhere/manifest.json").exists()
    later = small_site(make_app())
    assert site(later).output == tmp_path / "elsewhere"
    assert later.test_client().get("/about").headers["X-Prerendered"] == "true"
    assert "5 pages in" in run(later, "status").stdout


def test_output_may_not_be_a_file_or_the_static_folder(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(app, "--output", "file").exit_code == 2
    result = run(app, "--output", str(tmp_path / "app/static/pages"))
    assert result.exit_code == 2
    assert "--output is" in result.stderr
    assert "inside the static folder" in result.stderr
    assert not (tmp_path / "app/static").exists()


@pytest.mark.parametrize("count", ["1", "4"])
def test_concurrency_gives_the_same_report(app: Flask, count: str) -> None:
    result = run(app, "--concurrency", count)
    assert result.exit_code == 0
    assert "5 pages published, 0 unchanged, 0 refused, 0 failed" in result.stdout
    assert keys(app) == ALL


def test_concurrency_is_how_many_renders_run_at_a_time(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_CONCURRENCY": 1})
    together = threading.Barrier(3, timeout=30)
    params = [{"number": number} for number in range(3)]
    app.add_url_rule(
        "/<int:number>", "page", mark(params=params)(lambda number: str(together.wait()))
    )
    assert run(app, "--concurrency", "3").exit_code == 0


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_wrong_concurrency_is_a_wrong_call(app: Flask, count: str) -> None:
    assert run(app, "--concurrency", count).exit_code == 2


def test_json_is_all_there_is_on_the_standard_output(app: Flask) -> None:
    app.add_url_rule("/broken", "broken", mark(lambda: [print("from a view"), 1 / 0]))
    app.add_url_rule("/<slug>", "unlisted", mark(lambda slug: slug))
    result = run(app, "--json", "--path", "/about", "--path", "/broken", "--path", "/no/such")
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert facts["ok"] is False
    assert (facts["total"], facts["counts"]) == (2, {"published": 1, "failed": 1})
    assert facts["changed"] == ["/about"]
    assert facts["unknown"] == ["/no/such"]
    assert facts["reasons"] == {"error": 1}
    assert [one["key"] for one in facts["turned_down"]] == ["/broken"]
    assert [one["kind"] for one in facts["problems"]] == ["unlisted"]
    assert {one["key"] for one in facts["slowest"]} == {"/about", "/broken"}
    assert facts["duration"] > 0
    assert "from a view" in result.stderr


def test_json_of_a_good_build_says_so(app: Flask) -> None:
    result = run(app, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True


def test_a_dry_run_lists_the_urls_and_does_nothing(make_app: MakeApp) -> None:
    app, rendered = make_app(), []
    app.add_url_rule("/", "home", mark(lambda: rendered.append(1) or "home"))
    app.add_url_rule("/a b", "space", mark(lambda: rendered.append(1) or "space"))
    result = run(app, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.split() == ["/", "/a%20b"]
    assert json.loads(run(app, "--dry-run", "--json").stdout) == {
        "total": 2,
        "urls": ["/", "/a%20b"],
    }
    assert run(app, "--dry-run", "--output", "elsewhere").exit_code == 0
    assert rendered == []
    assert not site(app).output.exists()
    assert not Path("elsewhere").exists()


def test_a_dry_run_tells_of_problems(app: Flask) -> None:
    assert run(app, "--dry-run", "--path", "/nothing").exit_code == 1
    app.add_url_rule("/<slug>", "broken", mark(params=lambda: 5)(lambda slug: slug))
    result = run(app, "--dry-run", "--json")
    assert result.exit_code == 1
    assert "error: /<slug> (broken): the list of its pages failed" in result.stderr
    assert json.loads(result.stdout)["total"] == 5


def test_fail_fast_stops_at_the_first_failure(make_app: MakeApp) -> None:
    app = make_app()
    params = [{"number": number} for number in range(100)]
    app.add_url_rule("/<int:number>", "page", mark(params=params)(lambda number: str(1 // number)))
    result = run(app, "--fail-fast", "--concurrency", "1")
    assert result.exit_code == 1
    assert "1 failed" in result.stdout
    assert "failed: /0 (page): error: ZeroDivisionError" in result.stderr
    assert len(keys(app)) < 20
    # Without it, the others are made.
    assert run(app).exit_code == 1
    assert len(keys(app)) == 99


@pytest.mark.parametrize("option", ["--quiet", "-q"])
def test_quiet_is_silent_when_all_is_well(app: Flask, option: str) -> None:
    result = run(app, option)
    assert (result.exit_code, result.output) == (0, "")
    assert keys(app) == ALL


def test_quiet_says_what_went_wrong(app: Flask) -> None:
    app.add_url_rule("/broken", "broken", mark(lambda: 1 / 0))
    result = run(app, "--quiet")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "failed: /broken (broken): error: ZeroDivisionError: division by zero" in result.stderr


# The report.


def test_a_failure_names_the_last_frame_of_the_users_code(make_app: MakeApp) -> None:
    app = make_app()

    def view() -> str:
        return json.loads("{")

    app.add_url_rule("/broken", "broken", mark(view))
    result = run(app)
    assert "failed: /broken (broken): error: JSONDecodeError" in result.stderr
    line = view.__code__.co_firstlineno + 1
    assert f"    at {__file__}:{line} in view" in result.stderr


def test_a_failure_in_a_template_names_its_line(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    template = tmp_path / "app" / "templates" / "page.html"
    template.write_text("<h1>\n{{ 1 // 0 }}\n</h1>")
    app.add_url_rule("/", "home", mark(lambda: render_template("page.html")))
    result = run(app)
    assert f"    at {template}:2 in top-level template code" in result.stderr


def test_a_failure_in_a_library_within_the_app_names_the_app(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    library = tmp_path / "app/.venv/lib/python3.11/site-packages"
    library.mkdir(parents=True)
    (library / "a_library.py").write_text("def fail():\n    raise ValueError('in the library')\n")
    (tmp_path / "app" / "views_of_app.py").write_text(
        "import a_library\n\ndef view():\n    a_library.fail()\n"
    )
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.syspath_prepend(str(tmp_path / "app"))
    import views_of_app  # type: ignore[import-not-found]

    app.add_url_rule("/", "home", mark(views_of_app.view))
    assert f"    at {tmp_path / 'app/views_of_app.py'}:4 in view" in run(app).stderr
    for name in ("views_of_app", "a_library"):
        sys.modules.pop(name)


def test_a_refusal_names_its_reason(app: Flask) -> None:
    app.add_url_rule("/cookie", "cookie", mark(lambda: Response("x", headers={"Set-Cookie": "a"})))
    result = run(app)
    assert result.exit_code == 1
    assert "1 refused" in result.stdout
    assert "refused: /cookie (cookie): set-cookie: sets a" in result.stderr
    assert "    at " not in result.stderr


def test_the_slowest_pages_are_named(make_app: MakeApp) -> None:
    app, clock = make_app(), threading.Event()
    app.add_url_rule("/slow", "slow", mark(lambda: str(clock.wait(0.15))))
    app.add_url_rule("/fast", "fast", mark(lambda: "fast"))
    result = run(app)
    assert re.search(r"Slowest:\n +0\.[1-9][0-9] s  /slow\n", result.stdout)
    assert "/fast" not in result.stdout


def test_many_failures_are_cut_short_and_counted(make_app: MakeApp) -> None:
    app = make_app()
    params = [{"number": number} for number in range(30)]
    app.add_url_rule("/<int:number>", "page", mark(params=params)(lambda number: str(1 / 0)))
    result = run(app)
    assert result.stderr.count("failed: /") == 20
    assert "... and 10 more (error 30). --json lists them." in result.stderr
    assert len(json.loads(run(app, "--json").stdout)["turned_down"]) == 30


def test_problems_are_told_with_three_ways_to_mend_them(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/<a>/<b>/<c>", "unlisted", mark(lambda **values: "x"))
    result = run(app)
    assert result.exit_code == 0  # a warning
    assert "warning: /<a>/<b>/<c> (unlisted): it has arguments" in result.stderr
    assert "Three ways to mend it" in result.stderr

    def broken() -> Iterator[dict[str, str]]:
        raise LookupError("no database")
        yield {}

    app = make_app()
    app.add_url_rule("/x/<slug>", "enumerated", mark(params=broken)(lambda slug: "x"))
    result = run(app)
    assert result.exit_code == 1
    assert "error: /x/<slug> (enumerated): the list of its pages failed: LookupError" in (
        result.stderr
    )


def test_nothing_is_marked(make_app: MakeApp) -> None:
    result = run(make_app())
    assert result.exit_code == 0
    assert "0 pages published" in result.stdout
    assert "No route is marked. Mark one with @app.prerender." in run(make_app(), "routes").stdout


# Exit codes and errors.


def test_a_wrong_call_is_exit_code_2(app: Flask) -> None:
    assert run(app, "--pth", "/").exit_code == 2
    assert run(app, "nothing").exit_code == 2
    result = run(app, "--path", "/", "routes")
    assert result.exit_code == 2
    assert "routes takes no option of the build" in result.stderr


def test_a_wrong_selection_is_exit_code_2_and_no_traceback(make_app: MakeApp) -> None:
    app = make_app(select=lambda rule, view: {"revalidat": 1})
    app.add_url_rule("/", "home", lambda: "home")
    for command in ([], ["routes"], ["--dry-run"]):
        result = run(app, *command)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: select() for the endpoint 'home'")
        assert "Did you mean 'revalidate'?" in result.stderr


def test_a_store_that_cannot_be_written_is_exit_code_1_and_no_traceback(
    make_app: MakeApp, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    app = small_site(make_app({"PRERENDER_PATH": str(tmp_path / "file")}))
    result = run(app)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert str(tmp_path / "file") in result.stderr
    assert "Traceback" not in result.output


def test_a_manifest_that_cannot_be_written_is_told_under_the_report(app: Flask) -> None:
    (site(app).output / "manifest.json" / "x").mkdir(parents=True)
    result = run(app)
    assert result.exit_code == 1
    assert "5 pages published" in result.stdout
    assert f"error: {site(app).output / 'manifest.json'} cannot be written" in result.stderr


# flask prerender routes


def test_routes_lists_marked_routes_and_some_urls(app: Flask) -> None:
    params = [{"number": number} for number in range(5)]
    app.add_url_rule("/n/<int:number>", "n", mark(params=params, fallback="404")(lambda number: ""))
    result = run(app, "routes")
    assert result.exit_code == 0
    assert "/about  about  1 URLs, fresh 60 s, fallback render, visitors all" in result.stdout
    assert "/posts/<slug>  post  3 URLs, fresh for ever, fallback render, visitors bots" in (
        result.stdout
    )
    assert "/n/<int:number>  n  5 URLs, fresh for ever, fallback 404" in result.stdout
    assert "    /n/2\n    ... 2 more (--urls lists them)" in result.stdout
    assert "/n/3" not in result.stdout
    assert "contact" not in result.stdout
    assert not site(app).output.exists()


def test_routes_lists_every_url_when_asked(app: Flask) -> None:
    params = [{"number": number} for number in range(5)]
    app.add_url_rule("/n/<int:number>", "n", mark(params=params)(lambda number: ""))
    result = run(app, "routes", "--urls")
    assert all(f"    /n/{number}\n" in result.stdout for number in range(5))
    assert "more" not in result.stdout
    rows = json.loads(run(app, "routes", "--urls", "--json").stdout)
    assert [row["examples"] for row in rows if row["endpoint"] == "n"] == [
        [f"/n/{number}" for number in range(5)]
    ]


def test_routes_are_json(app: Flask) -> None:
    rows = {row["rule"]: row for row in json.loads(run(app, "routes", "--json").stdout)}
    assert rows["/posts/<slug>"] == {
        "rule": "/posts/<slug>",
        "endpoint": "post",
        "urls": 3,
        "fallback": "render",
        "revalidate": None,
        "visitors": "bots",
        "examples": ["/posts/one", "/posts/two", "/posts/three"],
    }
    assert set(rows) == {"/", "/about", "/posts/<slug>"}


def test_routes_tells_of_problems_beside_its_json(app: Flask) -> None:
    app.add_url_rule("/<a>/<b>/<c>", "unlisted", mark(lambda **values: "x"))
    for options in (["routes"], ["routes", "--json"]):
        assert "warning: /<a>/<b>/<c> (unlisted)" in run(app, *options).stderr
    json.loads(run(app, "routes", "--json").stdout)


def test_routes_of_several_hosts_are_counted_each(tmp_path: Path) -> None:
    app = Flask("site", host_matching=True, static_host="s", instance_path=str(tmp_path))
    Prerender(app)
    app.add_url_rule("/", "a", mark(lambda: "a"), host="a.example")
    app.add_url_rule("/", "b", mark(lambda: "b"), host="b.example")
    rows = json.loads(run(app, "routes", "--json").stdout)
    assert {row["endpoint"]: (row["urls"], row["examples"]) for row in rows} == {
        "a": (1, ["//a.example/"]),
        "b": (1, ["//b.example/"]),
    }
    site(app).close()


# flask prerender status


def test_status_of_nothing(app: Flask) -> None:
    result = run(app, "status")
    assert result.exit_code == 0
    assert f"0 pages in {site(app).output}, 0 B." in result.stdout
    assert "Nothing is stored. Build with: flask prerender" in result.stdout
    assert not site(app).output.exists()


def test_status_says_what_is_stored_its_age_and_size(app: Flask, clock: Clock) -> None:
    run(app)
    clock.forward(90)
    app.test_client().get("/posts/new", headers={"User-Agent": "Googlebot"})
    result = run(app, "status")
    assert result.exit_code == 0
    assert f"6 pages in {site(app).output}, 23 B." in result.stdout
    assert "5 from builds, 1 from first visits; 5 fresh, 1 stale, 0 expired." in result.stdout
    assert "The oldest:" in result.stdout
    assert re.search(r" 90 s +5 B +stale +/about\n", result.stdout)
    assert re.search(r" 0 s +3 B +fresh +/posts/new\n", result.stdout)


def test_status_lists_the_oldest_or_all(make_app: MakeApp, clock: Clock) -> None:
    app = make_app()
    params = [{"number": number} for number in range(30)]
    app.add_url_rule("/<int:number>", "page", mark(params=params)(lambda number: "x"))
    run(app, "--path", "/7")
    clock.forward(100_000)
    run(app)
    clock.forward(1000)
    run(app, *(part for number in range(30) if number != 12 for part in ("--path", f"/{number}")))
    shown = run(app, "status").stdout
    assert shown.count(" fresh ") == 20
    assert shown.index("/12\n") < shown.index("/0\n")
    everything = run(app, "status", "--all").stdout
    assert everything.count(" fresh ") == 30
    assert "Every page:" in everything


def test_status_is_json(app: Flask, clock: Clock) -> None:
    run(app)
    clock.forward(61)
    facts = json.loads(run(app, "status", "--json", "--all").stdout)
    listed = {page["key"]: page for page in facts.pop("listed")}
    assert facts.pop("revision") > 0
    assert facts == {
        "path": str(site(app).output),
        "style": "dir_index",
        "pages": 5,
        "bytes": 20,
        "from_builds": 5,
        "from_visits": 0,
        "fresh": 4,
        "stale": 1,
        "expired": 0,
    }
    assert list(listed) == ALL
    assert listed["/about"] == {
        "key": "/about",
        "endpoint": "about",
        "state": "stale",
        "age": 61.0,
        "bytes": 5,
        "origin": "build",
    }


# Real processes.

MODULE = """
from flask import Flask
from flask_prerender import Prerender, mark

app = Flask(__name__, instance_path={instance!r})
app.config.from_prefixed_env()
Prerender(app)

def posts():
    return [{{"number": n}} for n in range(20)]

@app.route("/")
@mark
def home():
    return "home " * 500

@app.route("/posts/<int:number>")
@mark(params=posts)
def post(number):
    return f"post {{number}}"
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    text = MODULE.format(instance=str(tmp_path / "instance"))
    (tmp_path / "small_site.py").write_text(text)
    return text


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    return {**os.environ, "PYTHONPATH": path, "FLASK_APP": "small_site:app", **more}


def flask(tmp_path: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "prerender", *args],
        cwd=tmp_path,
        env=environment(tmp_path, **more),
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.usefixtures("module")
def test_the_exit_codes_of_a_real_process(tmp_path: Path) -> None:
    good = flask(tmp_path, "--quiet")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    assert flask(tmp_path, "--path", "/no").returncode == 1
    assert flask(tmp_path, "--no-such-option").returncode == 2
    wrong = flask(tmp_path, FLASK_PRERENDER_STYL="file")
    assert wrong.returncode == 2
    assert "Traceback" in wrong.stderr  # it says which line of the app
    assert "There is no setting PRERENDER_STYL. Did you mean 'PRERENDER_STYLE'?" in wrong.stderr


def test_a_server_without_the_options_of_the_build_finds_its_pages(
    tmp_path: Path, module: str, live_server: Callable[..., LiveServer]
) -> None:
    server = live_server("small_site:app", workers=1)

    def ask() -> Answer:
        return server.ask("/posts/3")

    assert "hit" not in (ask().get("Cache-Status") or "")
    built = flask(tmp_path, "--output", "elsewhere", "--style", "file")
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "elsewhere/public/posts/3.html").read_text() == "post 3"
    # The worker was running already, and is told by the build alone.
    assert "hit" in (ask().get("Cache-Status") or "")
    assert server.ask("/posts/4").get("X-Prerendered") == "true"


def read_terminal(master: int, process: subprocess.Popen[bytes]) -> str:
    chunks = []
    while True:
        ready, _, _ = select.select([master], [], [], 30)
        assert ready, "the terminal says nothing"
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux says EIO where the other side is closed
            chunk = b""
        if not chunk:
            process.wait(30)
            return b"".join(chunks).decode()
        chunks.append(chunk)


@pytest.mark.usefixtures("module")
def test_a_terminal_shows_the_page_under_way(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "prerender"],
        cwd=tmp_path,
        env=environment(tmp_path, TERM="xterm", COLUMNS="120"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    try:
        shown = read_terminal(master, process)
    finally:
        os.close(master)
    assert process.returncode == 0
    assert "Prerendering" in shown
    assert re.search(r"\[#+-*\] +[0-9]+/21", shown)
    assert re.search(r"/21 .*/posts/[0-9]+", shown)
    assert "21/21" in shown
    assert "21 pages published" in shown


SLOW = """
import threading
from flask import Flask
from flask_prerender import Prerender, mark

app = Flask(__name__, instance_path={instance!r})
app.config.from_prefixed_env()
Prerender(app)

@app.route("/<int:number>")
@mark(params=[{{"number": n}} for n in range(1000)])
def page(number):
    threading.Event().wait({seconds} if number > 3 else 0)
    return f"page {{number}}"
"""


def test_an_interrupted_build_ends_and_what_it_made_stays(tmp_path: Path) -> None:
    text = SLOW.format(instance=str(tmp_path / "instance"), seconds=0.1)
    (tmp_path / "small_site.py").write_text(text)
    # Whoever starts the tests in the background has them ignore interrupts.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    start += "from flask.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", start, "prerender", "--concurrency", "2"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    made = tmp_path / "instance/prerendered/public/3/index.html"
    deadline = time.monotonic() + 30
    try:
        # The page is made by another process: there is nothing to wait on but the file.
        while not made.exists():
            assert time.monotonic() < deadline, "no page was made"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1
    assert said.endswith("Aborted!\n")
    assert "Traceback" not in said
    facts = json.loads(flask(tmp_path, "status", "--json").stdout)
    assert 4 <= facts["pages"] < 1000
    assert made.read_text() == "page 3"


def test_a_process_ends_although_views_hang(tmp_path: Path) -> None:
    text = SLOW.format(instance=str(tmp_path / "instance"), seconds=100)
    (tmp_path / "small_site.py").write_text(text)
    built = flask(tmp_path, "--concurrency", "3", FLASK_PRERENDER_TIMEOUT="0.05")
    assert built.returncode == 1
    assert "4 pages published" in built.stdout
    assert "(page): timeout: took longer than PRERENDER_TIMEOUT (0.05 s)" in built.stderr
    assert "renders hang, so the build stops. Mend these views, or raise" in built.stderr
    assert "Traceback" not in built.stderr


@pytest.mark.usefixtures("module")
def test_no_terminal_no_bar(tmp_path: Path) -> None:
    built = flask(tmp_path)
    assert "[#" not in built.stdout
    assert "\r" not in built.stdout
    assert "21 pages published" in built.stdout


@pytest.mark.usefixtures("module")
def test_help_says_what_it_does(tmp_path: Path) -> None:
    shown = flask(tmp_path, "--help").stdout
    for option in (
        "--path", "--tag", "--output", "--style", "--concurrency", "--json", "--dry-run",
        "--fail-fast", "--quiet", "routes", "status",
    ):  # fmt: skip
        assert option in shown
