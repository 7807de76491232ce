"""What a render reads of its visitor, and what its view raises, noticed and kept for the gate."""

from __future__ import annotations

import sys
import threading
import typing as t
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import FrameType

from blinker import NamedSignal
from flask import before_render_template
from flask import Flask
from flask import got_request_exception
from flask import Request
from flask import request
from flask import request_started
from flask import session
from jinja2 import TemplateError
from jinja2.meta import find_referenced_templates
from werkzeug.datastructures import EnvironHeaders

from . import signals
from .links import remember_links
from .render import current_render
from .render import Render

#: Their frames are passed over when somebody looks for the place that read something.
_FRAMEWORKS = frozenset({"asgiref", "contextlib", "flask", "flask_prerender", "jinja2", "werkzeug"})
_RENDERING = "flask_prerender.render"

#: What an app may look at besides headers, and the environ keys that it has seen then.
_ATTRIBUTES = {
    "environ": "*",
    "host": "HTTP_HOST",
    "remote_addr": "REMOTE_ADDR",
    "scheme": "wsgi.url_scheme",
}
#: What no render has, and the name under which the gate knows it.
_READS = {"cookies": "cookies", "args": "query", "authorization": "authorization"}


def watch(app: Flask) -> Callable[[], None]:
    """Let renders of `app` record what a view raised and what it read of its visitor.

    :return: is to be called in a forked child.
    """
    ear = _ears[app] = _Ear()
    signals.render_started.connect(ear.open, app, weak=False)
    signals.render_finished.connect(ear.close, app, weak=False)
    signals.render_failed.connect(ear.close, app, weak=False)
    return ear.renew


def listen(app: Flask) -> None:
    """Listen for good, in a process that does nothing but render."""
    _ears[app].open(app)


def is_heard(signal: NamedSignal, app: Flask) -> bool:
    """Whether anybody but us listens to a signal of an app."""
    if not signal.receivers:
        return False
    found = signal.receivers_for(app)
    return any(not isinstance(getattr(one, "__self__", None), _Ear) for one in found)


class _Ear:
    """Listens to what happens in the requests of one app while there are renders among them: as
    long as there are none, no visitor pays for it."""

    def __init__(self) -> None:
        self._renders, self._is_open = 0, False
        self._heard: dict[NamedSignal, Callable[..., None]] = {
            request_started: self._hear,
            # Functions of this app's own: a signal whose last receiver is gone costs nothing.
            got_request_exception: lambda *values, **facts: _remember_error(*values, **facts),
            before_render_template: lambda *values, **facts: _remember_template(*values, **facts),
        }
        self.renew()

    def renew(self) -> None:
        """Begin with a lock of its own in a forked child."""
        self._lock = threading.Lock()

    def open(self, sender: Flask, **extra: t.Any) -> None:
        with self._lock:
            self._renders += 1
            if not self._is_open:
                self._is_open = True
                for signal, receiver in self._heard.items():
                    signal.connect(receiver, sender, weak=False)

    def close(self, sender: Flask, **extra: t.Any) -> None:
        with self._lock:
            self._renders -= 1

    def _hear(self, sender: Flask, **extra: t.Any) -> None:
        done = current_render(request.environ)
        if done is not None:
            _begin(sender, done)
            return
        with self._lock:  # a visitor, at last: builds do not come and go with each page
            if self._renders <= 0:
                self._is_open = False
                for signal, receiver in self._heard.items():
                    with suppress(RuntimeError):  # somebody connects an app at this moment
                        signal.disconnect(receiver)


_ears: weakref.WeakKeyDictionary[Flask, _Ear] = weakref.WeakKeyDictionary()


def _begin(app: Flask, done: Render) -> None:
    """Count reads from here on: before every hook of the app, wherever it was registered."""
    done.is_dispatched = True
    _let_login_rest(app)
    remember_links(app)
    done.session = _unused_session()
    current: Request = request._get_current_object()  # type: ignore[attr-defined]
    current.headers = EnvironHeaders(_Noticing(current.environ, done))
    current.__class__ = _watched(type(current))


def _unused_session() -> t.Any:
    """Return the session, marked as not used yet. Flask marks it at each use."""
    current = session._get_current_object()  # type: ignore[attr-defined]
    try:
        current.accessed = False
    except AttributeError:  # an app's own class that cannot say
        return None
    return current


class _Noticing(dict[str, t.Any]):
    """The environ behind a render's headers: it notices which are looked at, and who asks for those
    that no render has."""

    _NOTED: t.ClassVar = {"HTTP_COOKIE": "cookies", "HTTP_AUTHORIZATION": "authorization"}

    def __init__(self, environ: t.Mapping[str, t.Any], done: Render) -> None:
        super().__init__(environ)
        self._render = done

    def __getitem__(self, key: str) -> t.Any:
        if key in self._NOTED:
            _note(self._render, self._NOTED[key])
        self._render.looked_at.add(key)
        return super().__getitem__(key)

    def items(self) -> t.Any:
        self._render.looked_at.add("*")
        return super().items()


def _remember_template(sender: Flask, template: t.Any, **extra: t.Any) -> None:
    done = current_render(request.environ) if request else None
    if done is not None and template.name:
        done.templates |= _named_by(sender, template.name)


def _named_by(app: Flask, name: str) -> frozenset[str]:
    """Return a template and all that it extends, includes and imports by name."""
    known: dict[str, frozenset[str]] = app.extensions.setdefault("prerender-templates", {})
    if name in known and not app.jinja_env.auto_reload:
        return known[name]
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        with suppress(TemplateError, OSError):
            environment = app.jinja_env
            source = (
                environment.loader.get_source(environment, one)[0] if environment.loader else ""
            )
            waiting += filter(None, find_referenced_templates(environment.parse(source)))
    known[name] = frozenset(found)
    return known[name]


def _note(done: Render, name: str) -> None:
    if name not in done.reads:
        done.reads.add(name)
        done.read_at[name] = _reader()


def _reader() -> str:
    """Return the place that asked: the nearest one outside of the frameworks."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == _RENDERING:
            return ""
        template = frame.f_globals.get("__jinja_template__")
        if template is not None:  # whose lines are not those of the code made of it
            return f"{template.name}:{template.get_corresponding_lineno(frame.f_lineno)}"
        if _is_from_outside(frame):
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _remember_error(sender: Flask, exception: BaseException, **extra: t.Any) -> None:
    done = current_render(request.environ)
    if done is not None:
        done.error = exception


def _watched(kind: type[Request]) -> type[Request]:
    """Return the class of a render's request: its attributes notice that the app looks at them. The
    requests of visitors keep the class they have, and pay for nothing."""
    known = vars(kind).get("_prerender_watched")
    if known is None:
        noticed = {name: _noticed(kind, name, key) for name, key in _ATTRIBUTES.items()}
        noted = {name: _noted(kind, name, what) for name, what in _READS.items()}
        names = {"__module__": kind.__module__, **noticed, **noted}
        known = type(kind.__name__, (kind,), names)
        kind._prerender_watched = known  # type: ignore[attr-defined]  # with its class, it goes
    return t.cast("type[Request]", known)


def _noticed(kind: type[Request], attribute: str, key: str) -> property:
    inherited: t.Any = getattr(kind, attribute, None)

    def read(self: Request) -> t.Any:
        own = vars(self)
        done = current_render(own["environ"])
        # The frameworks themselves are at home in the environ.
        if done is not None and (attribute != "environ" or _is_from_outside(sys._getframe(1))):
            done.looked_at.add(key)
        return own[attribute] if inherited is None else inherited.__get__(self, kind)

    return property(read, _writer(inherited, attribute))


def _noted(kind: type[Request], attribute: str, name: str) -> property:
    """Werkzeug keeps these on the instance at the first read; each read is noted all the same."""
    inherited: t.Any = getattr(kind, attribute)

    def read(self: Request) -> t.Any:
        done = current_render(vars(self)["environ"])
        if done is not None:
            _note(done, name)
        return inherited.__get__(self, kind)

    return property(read, _writer(inherited, attribute), doc=inherited.__doc__)


def _writer(inherited: t.Any, attribute: str) -> Callable[[Request, t.Any], None]:
    def write(self: Request, value: t.Any) -> None:
        if hasattr(inherited, "__set__"):
            inherited.__set__(self, value)
        else:
            vars(self)[attribute] = value

    return write


def _is_from_outside(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] not in _FRAMEWORKS


def _let_login_rest(app: Flask) -> None:
    """Spare renders what Flask-Login asks the session unasked, after every response and before
    every template: each page of such an app would seem to depend on its visitor.

    A render has no cookie to refresh, and ``current_user`` still reads the session when it is used.
    """
    manager = getattr(app, "login_manager", None)
    refresh = getattr(manager, "_update_remember_cookie", None)
    after = app.after_request_funcs.get(None, [])
    if refresh is None or refresh not in after:
        return
    after[:] = [_unless_rendering(f, lambda r: r) if f == refresh else f for f in after]
    processors = app.template_context_processors[None]
    user = {"current_user": import_module("flask_login").current_user}
    processors[:] = [
        _unless_rendering(f, lambda: user)
        if getattr(f, "__name__", "") == "_user_context_processor"
        else f
        for f in processors
    ]


def _unless_rendering(call: t.Any, instead: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def choose(*values: t.Any) -> t.Any:
        in_render = bool(request) and current_render(request.environ) is not None
        return (instead if in_render else call)(*values)

    return choose
