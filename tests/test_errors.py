"""One tree of errors, whose messages teach."""

from __future__ import annotations

import inspect
import pickle
import re

import click
import pytest

import flask_prerender
from flask_prerender import CollisionError
from flask_prerender import ConfigError
from flask_prerender import errors
from flask_prerender import MarkError
from flask_prerender import PrerenderError
from flask_prerender import StoreError
from flask_prerender.errors import nearest

ERRORS = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, PrerenderError)
}


def test_every_error_is_of_one_tree_and_public() -> None:
    assert len(ERRORS) == 12
    assert all(getattr(flask_prerender, name) is one for name, one in ERRORS.items())
    assert set(ERRORS) <= set(flask_prerender.__all__)


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn = re.findall(r"^ {4}([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    levels: dict[int, type] = {}
    for indent, name in drawn:
        level = len(indent) // 4
        levels[level] = ERRORS[name]
        parent = levels[level - 1] if level else Exception
        assert ERRORS[name].__mro__[1] is parent, name
    assert {name for _, name in drawn} == set(ERRORS)


def test_a_wrong_mark_is_also_a_type_error() -> None:
    assert issubclass(MarkError, ConfigError)
    assert issubclass(MarkError, TypeError)


def test_wrong_configuration_ends_a_command_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    error = MarkError("there is no option 'x'.")
    assert isinstance(error, click.ClickException)
    assert (str(error), error.exit_code) == ("there is no option 'x'.", 2)
    try:
        raise error
    except MarkError as caught:
        caught.show()
    shown = capsys.readouterr().err
    assert "test_errors.py" in shown  # where it was raised
    assert shown.endswith("MarkError: there is no option 'x'.\n")


def test_a_collision_says_three_ways_out() -> None:
    error = CollisionError("/a", "a/index.html", "/a/")
    assert isinstance(error, StoreError)
    assert (error.key, error.file, error.owner) == ("/a", "a/index.html", "/a/")
    assert str(error).startswith("/a and /a/ would both be written to a/index.html. ")
    for way in ("another URL", "@app.prerender(False)", "PRERENDER_STYLE"):
        assert way in str(error)


@pytest.mark.parametrize("name", sorted(set(ERRORS) - {"CollisionError"}))
def test_an_error_goes_to_another_process_and_back(name: str) -> None:
    copy = pickle.loads(pickle.dumps(ERRORS[name]("what went wrong")))
    assert (type(copy), str(copy)) == (ERRORS[name], "what went wrong")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("revalidat", " Did you mean 'revalidate'?"),
        ("expires", " Did you mean 'expire'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_told_where_one_is_near(name: str, hint: str) -> None:
    assert nearest(name, ["revalidate", "expire", "tags"]) == hint
