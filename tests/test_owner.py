"""Two apps, one directory: nobody is given the pages of another app."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_prerender import ConfigError
from flask_prerender import generate
from flask_prerender import Prerender
from flask_prerender import StoreError
from flask_prerender.generate import Build

Get = Callable[..., Any]
Make = Callable[..., Flask]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make an app of a name that says its name."""
    made = []

    def make(name: str, folder: str = "instance", **config: Any) -> Flask:
        app = Flask(name, root_path=str(tmp_path), instance_path=str(tmp_path / folder))
        app.config.update(config)
        Prerender(app)
        app.add_url_rule("/", "index", app.prerender(lambda: f"page of {name}"))  # type: ignore
        made.append(app.extensions["prerender"])
        return app

    yield make
    for site in made:
        site.close()


def close(app: Flask) -> None:
    app.extensions["prerender"].close()


@pytest.mark.parametrize("store", [generate, lambda app: app.test_client().get("/")])
def test_an_app_refuses_the_directory_of_another(
    make: Make, store: Callable[[Flask], object]
) -> None:
    first = make("a")
    store(first)
    close(first)
    with pytest.raises(ConfigError, match=r"are those of the app 'a', and this one is 'b'.*PATH"):
        make("b")
    own = make("b", PRERENDER_PATH="of-b")
    assert own.test_client().get("/").text == "page of b"


def test_a_directory_may_be_moved(make: Make, tmp_path: Path) -> None:
    first = make("a")
    generate(first)
    close(first)
    shutil.copytree(tmp_path / "instance", tmp_path / "elsewhere")
    assert make("a", "elsewhere").test_client().get("/").headers["X-Prerendered"] == "true"


def test_apps_that_run_already_do_not_serve_each_other(
    make: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Each began, as in a process of its own, when there was no page yet."""
    first, second = make("a", TESTING=True, PRERENDER_ENABLED=True), make("b")
    assert first.test_client().get("/").headers["X-Prerendered"] == "true"
    answer = second.test_client().get("/")
    assert (answer.text, "X-Prerendered" in answer.headers) == ("page of b", False)
    assert "another app's pages" in caplog.text
    with pytest.raises(StoreError, match="those of the app 'a'"):
        generate(second)
    assert first.test_client().get("/").text == "page of a"
    assert json.loads((tmp_path / "instance/prerendered/owner.json").read_text()) == {"app": "a"}


def test_a_build_into_the_directory_of_another_app_changes_nothing(
    make: Make, tmp_path: Path
) -> None:
    first, second = make("a"), make("b", "other")
    generate(first)
    site = first.extensions["prerender"]
    build = Build(second.extensions["prerender"], output=site.path)
    with pytest.raises(StoreError, match="those of the app 'a'"):
        list(build.run())
    assert [page.key for page in site.store.pages()] == ["/"]
    assert first.test_client().get("/").text == "page of a"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_note_that_is_damaged_is_written_again(make: Make, tmp_path: Path, text: str) -> None:
    note = tmp_path / "instance/prerendered/owner.json"
    note.parent.mkdir(parents=True)
    note.write_text(text)
    assert make("a").test_client().get("/").headers["X-Prerendered"] == "true"
    assert json.loads(note.read_text()) == {"app": "a"}


def test_a_note_that_cannot_be_read_lets_the_app_answer(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "instance/prerendered/owner.json").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        answer = make("a").test_client().get("/")
    assert (answer.status_code, answer.text) == (200, "page of a")
    assert "owner.json" in caplog.text


def test_one_factory_called_for_two_tenants_is_refused(make: Make) -> None:
    first = make("site")
    with pytest.raises(ConfigError, match=r"Two apps of this process.*PRERENDER_PATH"):
        make("site")
    second = make("site", PRERENDER_PATH="second")
    assert first.test_client().get("/").status_code == second.test_client().get("/").status_code


@pytest.mark.parametrize("config", [{"TESTING": True}, {"PRERENDER_ENABLED": False}])
def test_one_of_two_apps_may_be_a_test_or_serve_nothing(make: Make, config: dict[str, Any]) -> None:
    make("site")
    make("site", **config)
    gc.collect()
    with pytest.raises(ConfigError):
        make("site")


def test_an_app_that_is_gone_is_in_nobodys_way(tmp_path: Path) -> None:
    for _ in range(2):
        app = Flask("site", root_path=str(tmp_path), instance_path=str(tmp_path / "instance"))
        Prerender(app)
        assert app.extensions["prerender"].owns_pages()
        del app


# A directory that cannot be used.


def test_a_store_that_cannot_begin_is_told_in_json(make: Make, tmp_path: Path) -> None:
    app = make("a")
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance/prerendered").write_text("a file")
    result = app.test_cli_runner().invoke(args=["prerender", "--json"])
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert (facts["ok"], "prerendered" in facts["error"]) == (False, True)


def test_a_directory_that_may_not_be_looked_at_is_told_without_a_traceback(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make("a")
    forbidden = str(tmp_path / "instance/prerendered")
    stat = os.stat

    def refuse(path: Any, *args: Any, **options: Any) -> Any:
        if isinstance(path, str | Path) and str(path) == forbidden:
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert app.test_client().get("/").text == "page of a"
    assert not [record for record in caplog.records if record.exc_info]


def test_an_answer_in_the_place_of_a_store_that_failed_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make("a")

    def fail(key: str) -> Any:
        raise StoreError("down")

    monkeypatch.setattr(app.extensions["prerender"].store, "get", fail)
    answer = app.test_client().get("/")
    assert answer.text == "page of a"
    assert answer.headers["Cache-Status"] == "flask-prerender; fwd=uri-miss; detail=store"


# While an app is tested.


def test_under_test_nothing_is_served_or_stored(make: Make, tmp_path: Path) -> None:
    app = make("site", TESTING=True)
    for _ in range(2):
        answer = app.test_client().get("/")
        assert answer.headers["Cache-Status"] == "flask-prerender; fwd=bypass; detail=disabled"
    assert not (tmp_path / "instance").exists()
    app = make("site", TESTING=True, PRERENDER_ENABLED=True)
    assert app.test_client().get("/").headers["X-Prerendered"] == "true"
