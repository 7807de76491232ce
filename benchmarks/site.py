"""The site that everybody serves and builds: a guide to invented birds.

A bird's page goes through two levels of inheritance, macros, loops and about thirty ``url_for``
calls, and has about 10 KB. The same number always gives the same bytes.
"""

from __future__ import annotations

import random
import time
from functools import cache
from typing import Any

from flask import Flask
from flask import render_template
from flask import Response

#: The page that is served.
NUMBER = 7
PAGE = f"/birds/{NUMBER}/"
#: How many birds the site has where only one page is asked for.
PAGES = 1000

FAMILIES = ("divers", "herons", "owls", "finches", "terns", "rails", "larks", "swifts")

_VOCABULARY = (
    "a above across along among and autumn bank bark beak before below between bill branch breast "
    "bright brown call calm cliff coast coat cold crest crown dawn deep dense dive drift dusk "
    "early edge egg evening far feather feed field flight flock flood forest grass grey ground "
    "hedge high hill hollow hover hunt in insect island lake land late leaf light loud low marsh "
    "meadow mist moor morning moss mud narrow near nest night north of often on open over pale "
    "pair past pine plain plume pond quick quiet rain rare reed ridge river rock roost salt sand "
    "sea seed shade shallow sharp shore short shy silver slow small snow soft song south spring "
    "steep stone stream summer swamp swift tail tall the throat tide to tree under valley voice "
    "wade warm water wave west wet white wide wild willow wind wing winter with wood yellow young"
)
_WORDS = _VOCABULARY.split()
_FACTS = ("length", "wingspan", "weight", "eggs", "incubation", "range", "height", "population")


def _sentence(source: random.Random, length: int) -> str:
    return " ".join(source.choices(_WORDS, k=length)).capitalize()


def _make(seed: int, count: int, words: int, sentences: int = 1) -> list[str]:
    source = random.Random(seed)
    return [
        " ".join(f"{_sentence(source, words)}." for _ in range(sentences)) for _ in range(count)
    ]


# Made once, as if a database had its rows in memory: what is measured is Flask and its templates.
_NAMES = [text.removesuffix(".") for text in _make(1, 499, 2)]
_LINES = _make(2, 499, 12)
_TEXTS = _make(3, 997, 13, 15)


def _bird(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "name": _NAMES[number % 499],
        "family": FAMILIES[number % len(FAMILIES)],
        "line": _LINES[number % 499],
        "is_rare": number % 3 == 0,
        "facts": [(name, (number * 37 + n * 11) % 900) for n, name in enumerate(_FACTS)],
        "chapters": [
            (_NAMES[(number * 5 + n) % 499], _TEXTS[(number * 7 + n) % 997]) for n in range(6)
        ],
    }


def _some(start: int, pages: int, count: int) -> list[dict[str, Any]]:
    numbers = [(start + step * 17) % pages + 1 for step in range(count)]
    return [
        {"number": n, "name": _NAMES[n % 499], "line": _LINES[n % 499], "is_rare": n % 3 == 0}
        for n in numbers
    ]


def create_app(pages: int, wait: float = 0.0, **config: Any) -> Flask:
    """Return the site with `pages` birds.

    :param wait: for how many seconds the view of a bird waits, as for a database.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(SECRET_KEY="not a secret", **config)
    common = {"families": FAMILIES, "pages": pages}

    @app.get("/")
    def home() -> str:
        return render_template("section.html", family="", birds=_some(0, pages, 9), **common)

    @app.get("/style.css")
    def style() -> Response:
        return Response("body { max-width: 60rem }\n", mimetype="text/css")

    @app.get("/families/<family>/")
    def section(family: str) -> str:
        birds = _some(len(family), pages, 9)
        return render_template("section.html", family=family, birds=birds, **common)

    @app.get("/birds/<int:number>/")
    def bird(number: int) -> str:
        if wait:
            time.sleep(wait)
        about = _bird(number)
        birds = _some(number, pages, 9)
        return render_template(
            "bird.html", bird=about, family=about["family"], birds=birds, **common
        )

    return app


def urls(pages: int) -> list[str]:
    """Return every URL of the site."""
    families = [f"/families/{family}/" for family in FAMILIES]
    return ["/", "/style.css", *families, *(f"/birds/{n}/" for n in range(1, pages + 1))]


@cache
def page() -> bytes:
    """Return the page that is served."""
    return create_app(PAGES).test_client().get(PAGE).data
