"""Every Python and console block of README.md and of the docs runs.

A page is read from its top, in a directory of its own. A Python block runs in the page's
namespace, except one that is named, by ``:caption: app.py`` or by a first line ``# app.py``: it
is written to that file. In a console block every ``$`` line runs, and the lines under it are
looked for in what it says, in their order; ``...`` stands for anything.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sybil import Example
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers import markdown
from sybil.parsers import rest

from conftest import BOOT_SECONDS
from conftest import free_port
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.rst"))]
BIN = Path(sys.executable).parent


class Shell:
    """Runs the commands of one page: servers beside it, everything else to its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: list[subprocess.Popen[bytes]] = []
        self.port = 0
        self.environ = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}",
        }

    def run(self, line: str) -> str:
        """Run one command as a reader would, and return what it says."""
        words = shlex.split(line, comments=True)
        commands: dict[str, Callable[[list[str]], str]] = {
            "pip": self._pip,
            "make": self._make,
            "curl": self._curl,
            "gunicorn": lambda words: self._serve([*words, "--no-control-socket", "--bind"]),
        }
        if words[0] == "flask" and "run" in words:
            return self._serve([*words, "--port"])
        if words[:3] == ["python", "-m", "benchmarks"]:
            return self._bench(words)
        if words[0] in commands:
            return commands[words[0]](words)
        return self._plain(line, words)

    def _plain(self, line: str, words: list[str]) -> str:
        assert words[0] in ("flask", "python"), f"nobody knows how to run {words}"
        result = subprocess.run(
            ["bash", "-c", line],
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def _pip(self, words: list[str]) -> str:
        """Nothing is installed again; what the page names must be what the project offers."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert words[:2] == ["pip", "install"]
        for requirement in words[2:]:
            name, _, extras = requirement.rstrip("]").partition("[")
            assert name == project["name"]
            assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])
        return ""

    def _make(self, words: list[str]) -> str:
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return ""

    def _bench(self, words: list[str]) -> str:
        """A run takes minutes and libraries of its own; what the page names must be there."""
        text = (ROOT / "benchmarks" / "__main__.py").read_text()
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in text
        return ""

    def _serve(self, words: list[str]) -> str:
        self.stop()
        self.port = free_port()
        words.append(f"127.0.0.1:{self.port}" if words[-1] == "--bind" else str(self.port))
        log = (self.directory / "server.log").open("wb")
        with log:
            process = subprocess.Popen(
                words,
                cwd=self.directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.servers.append(process)
        return ""

    def _curl(self, words: list[str]) -> str:
        """Ask the server of this page, whatever port the page says."""
        url = urlsplit(words[-1])
        assert words[0] == "curl" and url.hostname in ("127.0.0.1", "localhost")
        options = words[1:-1]
        headers = {
            name: value.strip()
            for flag, text in pairwise(options)
            if flag == "-H"
            for name, _, value in [text.partition(":")]
        }
        method = "HEAD" if "-I" in options or "-sI" in options else "GET"
        if "-X" in options:
            method = options[options.index("-X") + 1]
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        return self._ask(method, target, headers)

    def _ask(self, method: str, target: str, headers: dict[str, str]) -> str:
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request(method, target, headers=headers)
                response = connection.getresponse()
                lines = [f"HTTP/1.1 {response.status} {response.reason}"]
                lines += [f"{name}: {value}" for name, value in response.getheaders()]
                return "\n".join(lines) + "\n\n" + response.read().decode()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, (self.directory / "server.log").read_text()
                time.sleep(0.02)
            finally:
                connection.close()

    def stop(self) -> None:
        for process in self.servers:
            process.terminate()
            process.wait(20)
        self.servers.clear()


def expect(expected: str, said: str) -> None:
    """Fail unless the lines of `expected` stand in `said`, in their order."""
    pattern = ".*?".join(
        r"\s+".join(r"[^\n]*?".join(map(re.escape, word.split("..."))) for word in line.split())
        for line in expected.splitlines()
        if line.strip() not in ("", "...")
    )
    assert re.search(pattern, said, re.DOTALL | re.IGNORECASE), (
        f"The page promises\n{expected}\nand this was said\n{said}"
    )


def commands(source: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the lines expected from it."""
    for part in re.split(r"^\$ ", source, flags=re.MULTILINE)[1:]:
        command, _, expected = part.replace("\\\n", " ").partition("\n")
        yield command, expected


class Runner:
    """Runs the blocks of one page."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shell = Shell(directory)
        self.evaluate = PythonEvaluator()

    def python(self, example: Example) -> None:
        name = example.region.lexemes.get("options", {}).get("caption")
        first = re.match(r"# (\w[\w/]*\.\w+)\n", example.parsed)
        name = name or (first and first[1])
        if not name:
            self.evaluate(example)
            return
        self.write(name, example.parsed)

    def template(self, example: Example) -> None:
        caption = example.region.lexemes["options"].get("caption")
        if caption:
            self.write(caption, example.parsed)

    def write(self, name: str, text: str) -> None:
        target = self.directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def console(self, example: Example) -> None:
        for command, expected in commands(example.parsed):
            expect(expected, self.shell.run(command))

    def run(self, page: Path) -> int:
        kind = markdown if page.suffix == ".md" else rest
        parsers = [
            kind.CodeBlockParser("python", self.python),
            kind.CodeBlockParser("console", self.console),
        ]
        if kind is rest:
            parsers.append(kind.CodeBlockParser("html+jinja", self.template))
        count = 0
        for example in Sybil(parsers).parse(page):
            example.namespace["__name__"] = "page"
            example.evaluate()
            count += 1
        return count


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_the_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    runner = Runner(tmp_path)
    try:
        runner.run(page)
    finally:
        runner.shell.stop()
        for name in set(sys.modules) - before:
            found = getattr(sys.modules[name], "__file__", None)
            if found and Path(found).is_relative_to(tmp_path):
                del sys.modules[name]


def test_the_first_screen_of_the_readme_is_tried(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    for needed in ("pip install Flask-Prerender", "flask prerender", "flask run", "curl -I"):
        assert needed in text
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block and len(block[1].splitlines()) <= 20


def test_a_promise_that_is_not_kept_is_noticed() -> None:
    expect("X-Prerendered: true\n...\nEnd", "x-prerendered:  true\nmore\nEnd")
    with pytest.raises(AssertionError):
        expect("X-Prerendered: true", "X-Prerendered: false")
    assert list(commands("$ a b\nsaid\n$ c \\\n  d\n")) == [("a b", "said\n"), ("c    d", "")]


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "-q",
            "-b",
            "html",
            ROOT / "docs",
            tmp_path / "html",
        ],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert result.returncode == 0, result.stderr
    assert "PRERENDER_PATH" in (tmp_path / "html" / "settings.html").read_text()
