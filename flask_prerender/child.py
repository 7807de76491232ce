"""A process that renders, judges and compresses for a build, and writes nothing of it."""

from __future__ import annotations

import gc
import logging
import sys
import time
import typing as t
from contextlib import suppress
from contextvars import Context
from multiprocessing.connection import Connection

from . import signals
from .errors import PrerenderError
from .errors import StoreError
from .launch import AppPath
from .launch import ignore_interrupts
from .launch import load
from .making import pack
from .page import digest
from .page import mimetype_of
from .page import Page
from .page import split_key
from .page import wsgi_path
from .publish import look
from .routes import Target
from .site import Site
from .site import site_of
from .tokens import Tokens
from .watch import listen
from .wire import Answer
from .wire import answer_of
from .wire import Asked
from .wire import dumps

log = logging.getLogger("flask_prerender")

#: So many answers, or those of so many seconds, are sent together.
_TOGETHER = 8
_SECONDS = 0.02
#: The first answer of a process: why it cannot work, or nothing.
READY = b""


class Wires(t.NamedTuple):
    """How a build and one of its processes talk.

    :ivar asks: lists of targets. :ivar answers: what became of them.
    :ivar current: shared memory with the number of the target that is being rendered, or -1.
    """

    asks: Connection
    answers: Connection
    current: t.Any


def forked(wires: Wires, not_ours: list[Connection], site: Site, number: int) -> None:
    """Work in a copy of the process that builds.

    :param not_ours: ends of wires that would seem alive as long as we have them.
    """
    for end in not_ours:
        end.close()
    gc.freeze()  # what is shared with the parent stays shared
    _serve(wires, site, number)


def spawned(wires: Wires, path: AppPath, where: tuple[t.Any, str], number: int) -> None:
    """Work in a new process, which imports the app.

    :param where: the directory that the build writes to, and the style of its file names.
    """
    sys.stdout = sys.stderr  # the standard output is the report's
    try:
        site = site_of(load(path))
        site.move(*where)
    except PrerenderError as error:
        wires.answers.send_bytes(str(error).encode())
    except Exception as error:
        log.exception("The app could not be imported")
        text = f"the app could not be imported: {type(error).__name__}: {error}"
        wires.answers.send_bytes(text.encode())
    else:
        _serve(wires, site, number)


def _serve(wires: Wires, site: Site, number: int) -> None:
    ignore_interrupts()
    work = _Work(wires, site, number)
    with suppress(EOFError, BrokenPipeError, ConnectionError):  # the build is over
        Context().run(work.go_on)


class _Work:
    """What one process does for a build."""

    def __init__(self, wires: Wires, site: Site, number: int) -> None:
        self._wires = wires
        self._site = site
        self._number = number
        self._tokens = Tokens(site)
        self._sent = signals.divert()
        listen(site.app)

    def go_on(self) -> None:
        """Answer what is asked until the wire is closed.

        :raises EOFError: it is. :raises OSError: nobody hears the answers.
        """
        self._wires.answers.send_bytes(READY)
        while True:
            self._answer_all(*self._wires.asks.recv())

    def _answer_all(self, questions: list[Asked], heard: frozenset[str]) -> None:
        stored = self._stored([asked[1] for asked in questions])
        answers: list[Answer] = []
        since = time.monotonic()
        for asked in questions:
            self._wires.current.value = asked[0]
            answer = self._answer(asked, stored.get(asked[1]))
            answers.append(answer._replace(sent=[one for one in answer.sent if one[0] in heard]))
            now = time.monotonic()
            if len(answers) >= _TOGETHER or now - since > _SECONDS:
                self._send(answers)
                answers, since = [], now
        if answers:
            self._send(answers)

    def _send(self, answers: list[Answer]) -> None:
        self._wires.answers.send_bytes(dumps(answers))
        self._wires.current.value = -1

    def _answer(self, asked: Asked, stored: Page | None) -> Answer:
        number, key, rule, endpoint, tags, last_modified, is_visited = asked
        self._sent.clear()
        try:
            mark = self._mark(rule, endpoint, key)
            target = Target(key, rule, endpoint, mark, tags, last_modified, is_visited)
            origin = "visit" if is_visited else "build"
            build, token = (self._number, self._tokens.read())
            judged = look(self._site, target, origin=origin, build=build, token=token)
            done = judged.done
            if judged.verdict and self._is_new(stored, done.body):
                packer = self._site.build_packer
                judged.packed = pack(self._site, packer, done.body, mimetype_of(done.headers))
        except Exception as error:
            log.exception("%s could not be published", key)
            return Answer(number, None, list(self._sent), repr(error))
        return answer_of(number, judged, list(self._sent))

    def _mark(self, rule: str, endpoint: str, key: str) -> t.Any:
        path = wsgi_path(split_key(key)[1])
        for one in self._site.app.url_map.iter_rules(endpoint):
            if one.rule == rule and (mark := self._site.routes.mark_for(one, path)):
                return mark
        raise PrerenderError(
            f"the app that this process imported has no marked route {rule} ({endpoint})"
        )

    def _stored(self, keys: list[str]) -> dict[str, Page]:
        """Return what is stored, where that spares compressing."""
        if not self._site.build_packer.compressors:
            return {}
        try:
            return self._site.store.get_all(keys)
        except StoreError:  # the build will say it
            return {}

    def _is_new(self, stored: Page | None, body: bytes) -> bool:
        if stored is None or stored.compressors not in self._site.build_packer.accepted:
            return True
        return stored.identity.digest != digest(body)
