"""What is wrong with a marked route, in words that say how to mend it."""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug.routing import Rule

from .errors import TagsError

_KEPT = "Pages stored earlier stay as they are."


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a marked route that its author should know.

    :ivar kind: ``unlisted`` (has arguments, and nobody says which), ``empty`` (its enumerator
        gave nothing), ``enumerator`` (it raised, or gave something else than arguments),
        ``tags`` (the same of its mark's tags), ``unstorable`` (a URL that is never stored),
        ``nothing`` (a rule or a group that no route belongs to).
    """

    kind: str
    endpoint: str
    rule: str
    message: str

    @property
    def is_warning(self) -> bool:
        return self.kind in ("unlisted", "empty", "nothing")


def unlisted(rule: Rule) -> Problem:
    names = ", ".join(
        f'"{name}": ...' for name in sorted(rule.arguments - set(rule.defaults or ()))
    )
    return _problem(
        "unlisted",
        rule,
        "it has arguments, and nothing says which values they take, so a build cannot make its "
        "pages. Three ways to mend it: list them with "
        f"@app.prerender(params=lambda: [{{{names}}}, ...]); say that pages are made at their "
        'first visit with @app.prerender(fallback="render"); or unmark the route with '
        "@app.prerender(False).",
    )


def empty(rule: Rule) -> Problem:
    return _problem(
        "empty",
        rule,
        "it was never rendered, because its enumerator gave nothing. Three ways to mend it: see "
        "that its data is there when you build; let the enumerator yield its pages; or unmark the "
        "route with @app.prerender(False).",
    )


def failing_enumerator(rule: Rule, error: Exception) -> Problem:
    return _problem(
        "enumerator",
        rule,
        f"the list of its pages failed: {_sentence(f'{type(error).__name__}: {error}')} {_KEPT} "
        "Three ways to mend it: mend the enumerator (params=); make pages at their "
        'first visit instead with @app.prerender(fallback="render"); or unmark the route with '
        "@app.prerender(False).",
    )


def failing_tags(rule: Rule, error: TagsError) -> Problem:
    return _problem(
        "tags",
        rule,
        f"the tags of its pages failed: {_sentence(str(error))} {_KEPT} "
        "Three ways to mend it: mend the callable (tags=), which gets those of the URL's values "
        "that it names; give a list that is the same for all its pages; or unmark the route with "
        "@app.prerender(False).",
    )


def idle(name: str, reason: str, *, rule: str = "", endpoint: str = "") -> Problem:
    return Problem(
        "nothing",
        endpoint,
        rule,
        f"{name} has no effect: {reason}. Three ways to mend it: correct its spelling (flask "
        "routes lists what there is); add or register the routes it means; or take it away.",
    )


def unstorable(rule: Rule, path: str) -> Problem:
    return _problem(
        "unstorable",
        rule,
        f"{path} is a URL that is never stored: it has an empty segment, '.' or '..', a control "
        "character, or is too long. The app answers it. Three ways to mend it: leave it out of the "
        "enumerator; give the page another name; or unmark the route with @app.prerender(False).",
    )


def _sentence(text: str) -> str:
    text = text.rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _problem(kind: str, rule: Rule, text: str) -> Problem:
    return Problem(kind, rule.endpoint, rule.rule, f"{rule.rule} ({rule.endpoint}): {text}")
