"""What the processes of a build tell each other: targets one way, judged renders the other."""

from __future__ import annotations

import pickle
import typing as t
from collections.abc import Iterable

from flask import Flask

from . import signals
from .errors import RenderError
from .gate import Verdict
from .making import Judged
from .render import Render
from .routes import Target
from .site import Site
from .watch import is_heard

#: A target without its mark, which each process finds in its own app; the number is its place.
Asked = tuple[int, str, str, str, tuple[str, ...], float | None, bool]
Sent = list[tuple[str, dict[str, t.Any]]]

_FACTS = (
    "status", "headers", "body", "duration", "stopped", "reads", "looked_at", "fresh_for",
    "expires_at", "tags", "templates", "terms", "read_at", "rule", "endpoint", "kept",
)  # fmt: skip


class Answer(t.NamedTuple):
    """What became of a target in a process that renders.

    :ivar number: the target's place in the build.
    :ivar facts: of the render, or ``None`` when it broke: `broken` says how.
    :ivar sent: the signals that were meant for receivers, with their facts.
    """

    number: int
    facts: tuple[t.Any, ...] | None
    sent: Sent
    broken: str = ""


class _Raised(t.NamedTuple):
    """An exception that may not be one in another process."""

    pickled: bytes
    text: str


def asked(number: int, target: Target) -> Asked:
    return (
        number, target.key, target.rule, target.endpoint, target.tags, target.last_modified,
        target.is_visited,
    )  # fmt: skip


def answer_of(number: int, judged: Judged, sent: Sent) -> Answer:
    """Return what a build needs of a judged render."""
    done = judged.done
    verdict = (judged.verdict.reason, judged.verdict.detail)
    facts = (
        done.revision, judged.token, judged.moment, verdict, judged.where, judged.packed,
        tuple(getattr(done, name) for name in _FACTS),
    )  # fmt: skip
    return Answer(number, facts, [(name, _portable(told)) for name, told in sent])


def heard(app: Flask) -> frozenset[str]:
    """Return the names of the signals that somebody listens to."""
    return frozenset(name for name, one in signals.SIGNALS.items() if is_heard(one, app))


def judged_of(answer: Answer, target: Target, build: int) -> Judged:
    """Return the judged render of an answer that has one."""
    assert answer.facts is not None
    revision, token, moment, verdict, where, packed, facts = answer.facts
    done = Render(target.key, revision, 0.0, **dict(zip(_FACTS, facts, strict=True)))
    origin = "visit" if target.is_visited else "build"
    return Judged(target, done, origin, build, token, moment, Verdict(*verdict), where, packed)


def dumps(answers: list[Answer]) -> bytes:
    """Return answers as bytes; what cannot be told in another process is told as a text."""
    try:
        return pickle.dumps(answers, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return pickle.dumps([_plain(one) for one in answers], pickle.HIGHEST_PROTOCOL)


def send_again(site: Site, sent: Sent) -> None:
    """Send the signals of another process."""
    for name, facts in sent:
        told = {fact: _opened(value) for fact, value in facts.items()}
        signals.send(signals.SIGNALS[name], site.app, **told)


def _portable(facts: dict[str, t.Any]) -> dict[str, t.Any]:
    if not any(isinstance(value, BaseException) for value in facts.values()):
        return facts
    return {name: _raised(value) for name, value in facts.items()}


def _raised(value: t.Any) -> t.Any:
    if not isinstance(value, BaseException):
        return value
    try:
        pickled = pickle.dumps(value)
    except Exception:
        pickled = b""
    return _Raised(pickled, f"{type(value).__name__}: {value}")


def _opened(value: t.Any) -> t.Any:
    if not isinstance(value, _Raised):
        return value
    try:
        error = pickle.loads(value.pickled)
    except Exception:  # whatever its class does when it is made again
        error = None
    return error if isinstance(error, BaseException) else RenderError(value.text)


def _plain(answer: Answer) -> Answer:
    sent = [(name, dict(_each_plain(facts.items()))) for name, facts in answer.sent]
    try:
        pickle.dumps(answer.facts)
    except Exception as error:
        return Answer(answer.number, None, sent, f"{type(error).__name__}: {error}")
    return answer._replace(sent=sent)


def _each_plain(facts: Iterable[tuple[str, t.Any]]) -> Iterable[tuple[str, t.Any]]:
    for name, value in facts:
        try:
            pickle.dumps(value)
        except Exception:
            yield name, repr(value)
        else:
            yield name, value
