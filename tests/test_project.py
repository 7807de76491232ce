"""The project keeps its own rules, and its docs know everything it offers."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask import Flask

import flask_prerender.errors
from conftest import ROOT
from flask_prerender.settings import KEYS
from flask_prerender.signals import SIGNALS

SOURCES = sorted((ROOT / "flask_prerender").rglob("*.py"))
DOCS = ROOT / "docs"
FILE_LINES = 300
FUNCTION_LINES = 40
#: One closure over local names: each call within it would cost a sixth of what it does.
LONG = {("lane.py", "make"), ("lane.py", "lane")}
FORBIDDEN = {
    "handler", "handlers", "manager", "managers", "service", "services", "helper", "helpers",
    "util", "utils", "flush", "bust", "cachebust",
}  # fmt: skip


def source_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run(*command: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command, and show what it said when it failed."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


# The code.


def test_imports_go_down_only() -> None:
    result = run(Path(sys.executable).with_name("lint-imports"), "--config", "setup.cfg")
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("path", SOURCES, ids=source_name)
def test_every_file_is_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines < FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=source_name)
def test_every_function_is_short(path: Path) -> None:
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: lines for name, lines in lengths.items() if lines >= FUNCTION_LINES}
    assert {name for name in long if (path.name, name) not in LONG} == set()


def names_in(path: Path) -> Iterator[str]:
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def words(name: str) -> set[str]:
    """Split ``purge_helper`` and ``PurgeHelper`` into their words."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("path", SOURCES, ids=source_name)
def test_no_name_uses_a_word_we_do_not_use(path: Path) -> None:
    assert [name for name in names_in(path) if words(name) & FORBIDDEN] == []


def test_the_words_of_a_name_are_found_in_both_spellings() -> None:
    assert words("purge_helper") == words("PurgeHelper") == {"purge", "helper"}


# The docs.


def page(name: str) -> str:
    return (DOCS / name).read_text()


def test_every_setting_is_in_the_docs() -> None:
    # The table itself is rendered from the code; what a reader searches for must be in the page.
    text = page("settings.rst")
    assert ".. prerender-settings::" in text
    rendered = run(sys.executable, DOCS / "_ext" / "settings_table.py").stdout
    assert [key for key in KEYS if f".. py:data:: {key}\n" not in rendered] == []


def test_every_room_is_on_the_map() -> None:
    rooms = {path.stem for path in (ROOT / "flask_prerender").iterdir() if path.suffix != ".typed"}
    text = page("design.rst")
    assert [room for room in rooms if room[0] != "_" and f"``{room}``" not in text] == []


def test_every_signal_is_in_the_docs() -> None:
    text = page("signals.rst")
    names = [name.replace("-", "_") for name in SIGNALS]
    assert [name for name in names if f".. autodata:: {name}\n" not in text] == []


def test_every_error_is_in_the_docs() -> None:
    text = page("errors.rst")
    errors = [
        name
        for name, value in vars(flask_prerender.errors).items()
        if isinstance(value, type) and issubclass(value, flask_prerender.PrerenderError)
    ]
    assert len(errors) > 5
    assert [name for name in errors if f".. autoexception:: {name}\n" not in text] == []


def reasons() -> set[str]:
    """The reasons that gate.py and publish.py give, where they are written out."""
    found = set()
    for name in ("gate.py", "publish.py"):
        for node in ast.walk(ast.parse((ROOT / "flask_prerender" / name).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                arguments = [each.value for each in node.args if isinstance(each, ast.Constant)]
                if node.func.id == "Verdict" and arguments:
                    found.add(str(arguments[0]))
    return found


def test_every_reason_is_in_the_docs() -> None:
    text = page("safety.rst")
    assert len(reasons()) > 10
    assert [reason for reason in reasons() if f"``{reason}``" not in text] == []


def _is_told(option: str, text: str) -> bool:
    return re.search(rf"``{re.escape(option)}(?=`| )", text) is not None


def test_every_command_and_option_is_in_the_docs(make_app: Callable[..., Flask]) -> None:
    group = make_app().cli.commands["prerender"]
    assert isinstance(group, click.Group)
    text = page("cli.rst")
    missing = [name for name in group.commands if f"flask prerender {name}" not in text]
    for command in (group, *group.commands.values()):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                missing += [name for name in parameter.opts if not _is_told(name, text)]
    assert missing == []


def test_every_extra_is_in_the_docs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "README.md").read_text() + "".join(
        path.read_text() for path in DOCS.glob("*.rst")
    )
    extras = project["optional-dependencies"]
    assert extras
    assert [extra for extra in extras if f"Flask-Prerender[{extra}]" not in text] == []


# The release.


@pytest.mark.timeout(300)
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    # The wheel is made from the sdist, so both are whole.
    run(sys.executable, "-m", "build", "--outdir", dist, ROOT)
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"tests/conftest.py", "LICENSE", "CHANGES.rst", "Makefile", "setup.cfg"} <= names

    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    # Isolated (-I): a PYTHONPATH of the one who runs the tests is none of its business.
    run(python, "-I", "-m", "pip", "install", "--quiet", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = run(
        python,
        "-I",
        "-c",
        "import flask_prerender, pathlib; print(pathlib.Path(flask_prerender.__file__).parent)",
        cwd=elsewhere,
    ).stdout.strip()
    assert Path(where).is_relative_to(tmp_path / "empty")
    assert (Path(where) / "py.typed").exists()

    (elsewhere / "hello.py").write_text(
        "from flask import Flask\n"
        "from flask_prerender import Prerender\n"
        "app = Flask(__name__)\n"
        "Prerender(app)\n"
    )
    told = run(
        python, "-I", "-m", "flask", "--app", "hello.py", "prerender", "--help", cwd=elsewhere
    )
    assert "--path" in told.stdout
