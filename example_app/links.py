"""The URLs of modules and names, and of the names that a docstring mentions."""

from __future__ import annotations

from urllib.parse import urljoin

from flask import current_app
from flask import url_for

from .catalogue import catalogue
from .catalogue import Entry
from .catalogue import Key
from .catalogue import Module
from .prose import Resolve


def url_of(thing: Entry | Module) -> str:
    """Return where a module, a class or a function has its page."""
    if isinstance(thing, Module):
        return url_for("library.module", module=thing.name)
    return url_for("library.entry", module=thing.module, name=thing.name)


def url_of_key(key: Key) -> str | None:
    """Return the page of what a module and a name stand for, if there is one."""
    entry = catalogue().entries.get(key)
    return url_of(entry) if entry else None


def absolute(url: str) -> str:
    """Return a URL as the world sees it, whatever host this request named."""
    return urljoin(str(current_app.config["PRERENDER_BASE_URL"]), url)


def resolver(module: str, name: str | None = None) -> Resolve:
    """Return what finds the names that the docstrings of one page mention.

    A bare word is only a name when it cannot be plain English: ``JSONDecoder``, ``raw_decode``,
    or marked as code. So "open the copy" stays a sentence.

    :param name: the page's own name, which needs no link.
    """
    known = catalogue()

    def resolve(word: str, is_code: bool) -> str | None:
        if word in (module, name):
            return None
        if "." in word:
            found = _dotted(word)
            return url_of(found) if found else None
        if not is_code and not _looks_like_a_name(word):
            return None
        key = (module, word) if (module, word) in known.entries else ("builtins", word)
        if is_code and key not in known.entries and word in known.by_name:
            return url_of(known.by_name[word])
        if key[0] == "builtins" and not is_code and not word[0].isupper():
            return None
        return url_of_key(key)

    return resolve


def _looks_like_a_name(word: str) -> bool:
    return "_" in word or (word[0].isupper() and word[1:] != word[1:].lower())


def _dotted(word: str) -> Entry | Module | None:
    known = catalogue()
    if word in known.by_name:
        return known.by_name[word]
    module, _, name = word.rpartition(".")
    found = known.entries.get((module, name))
    if found is None and "." in module:  # a method: its class is as near as we get
        found = known.entries.get((module.rpartition(".")[0], module.rpartition(".")[2]))
    return found
