"""How the processes of a build come to be: copies of this one, or new ones that import the app."""

from __future__ import annotations

import os
import signal
import sys
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import click
from flask import Flask
from flask.cli import ScriptInfo

from .errors import ConfigError

Method = t.Literal["fork", "spawn"]


class AppPath(t.NamedTuple):
    """Where a new process finds the app.

    :ivar kind: ``"flask"``: `name` is what ``FLASK_APP`` may be, or ``""`` for what Flask looks for
        by itself; ``"factory"``: a callable as ``module:name``; ``"object"``: the app itself.
    :ivar app: the name that the app is to have.
    """

    kind: str
    name: str
    app: str


def check(app: Flask, method: Method, concurrency: int | None = None) -> None:
    """
    :raises ConfigError: processes cannot be started that way, or threads were asked for as well.
    """
    if concurrency is not None:
        raise ConfigError(
            "A build renders in threads (concurrency) or in processes, not in both: a process "
            "renders one page at a time."
        )
    if method == "spawn":
        app_path(app)
    elif not hasattr(os, "fork") or sys.platform == "darwin":
        raise ConfigError("Here are no safe forks. Let the processes of a build be new ones.")
    elif others := _other_threads():
        names = ", ".join(thread.name for thread in others)
        raise ConfigError(
            f"A fork would cut off the other threads of this process ({names}) wherever they are. "
            "Let the processes of a build be new ones."
        )


def app_path(app: Flask) -> AppPath:
    """Return where a new process finds `app`.

    :raises ConfigError: nowhere.
    """
    context = click.get_current_context(silent=True)
    info = context.find_object(ScriptInfo) if context is not None else None
    if info is not None and info.create_app is None:
        return AppPath("flask", info.app_import_path or "", app.name)
    if info is not None and (name := _importable(info.create_app)):
        return AppPath("factory", name, app.name)
    module = sys.modules.get(app.import_name)
    if module is not None and app.import_name != "__main__":
        for name, value in list(vars(module).items()):
            if value is app:
                return AppPath("object", f"{app.import_name}:{name}", app.name)
    if os.environ.get("FLASK_APP"):
        return AppPath("flask", os.environ["FLASK_APP"], app.name)
    raise ConfigError(
        f"The processes of a build have to import the app {app.name!r} here, and it is no variable "
        f"of its module ({app.import_name}). Build with `flask --app ... prerender --processes N`, "
        "or set FLASK_APP to where it is found."
    )


def load(path: AppPath) -> Flask:
    """Import the app, in a new process.

    :raises ConfigError: it is another one.
    """
    if path.kind == "object":
        app = _found(path.name)
    elif path.kind == "factory":
        app = ScriptInfo(create_app=_found(path.name)).load_app()
    else:
        app = ScriptInfo(app_import_path=path.name or None).load_app()
    if app.name != path.app:
        raise ConfigError(
            f"The build is one of the app {path.app!r}, and {path.name or 'what Flask finds'} "
            f"imports {app.name!r}. Set FLASK_APP to where {path.app!r} is found."
        )
    return t.cast(Flask, app)


def _other_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread is not threading.current_thread()]


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: in the middle of a fork, Python would tell of it and go on."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the build, in a process that was started :func:`without_interrupts`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def without_main() -> Iterator[None]:
    """Let a new process not run the script of this one, which may be what builds: it imports the
    app by the app's own name."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _importable(call: Callable[..., t.Any] | None) -> str:
    """Return ``module:name`` of a callable that can be imported by it, or ``""``."""
    module, name = getattr(call, "__module__", ""), getattr(call, "__qualname__", "")
    if module in ("", "__main__") or "<" in name:
        return ""
    try:
        return f"{module}:{name}" if _found(f"{module}:{name}") is call else ""
    except (ImportError, AttributeError):
        return ""


def _found(path: str) -> t.Any:
    module, _, name = path.partition(":")
    found: t.Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
