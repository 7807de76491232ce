"""Reads the modules of the standard library into the catalogue's values.

Nothing here may depend on the process: only on the interpreter and the files it came with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .catalogue import Constant
from .catalogue import Entry
from .catalogue import Key
from .catalogue import Module
from .classes import bases_of
from .classes import inherited_by
from .classes import members_of
from .classes import special_of
from .signatures import signature_of
from .sources import place_of
from .sources import source_of
from .texts import doc_of
from .texts import spoken_signature
from .texts import summary_of
from .texts import without_title

#: Left out: what does something when imported (prints, opens a browser or a display, sets up the
#: terminal), what is replaced by installers, tests, and second names of the same module.
LEFT_OUT = {
    *("antigravity", "this", "readline", "rlcompleter"),
    *("idlelib", "turtle", "turtledemo", "tkinter"),
    *("distutils", "ensurepip", "lib2to3", "pydoc_data", "test"),
    *("xxlimited", "xxlimited_35", "xxsubtype"),
    *("nt", "posix", "posixpath"),
}
#: Packages whose parts are tables, not something to read about.
CLOSED = {"encodings", "ctypes.macholib"}
#: Functions that test runners, debuggers and servers put their own in the place of.
REPLACEABLE = {
    *("sys.excepthook", "sys.unraisablehook", "sys.displayhook", "threading.excepthook"),
    "pdb.set_trace",
}
#: Modules without a list of names that offer something of another one as their own.
BORROWED = {"builtins": {"_io", "io"}}
EXTRA = ("collections.abc", "os.path")
Found = dict[Key, Any]


def read_modules() -> tuple[Module, ...]:
    """Import and read every public module, silently and once."""
    with warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")
        modules = dict(sorted(_import_all()))
        found = {
            (name, offered): thing
            for name, module in modules.items()
            for offered, thing in _offered(name, module)
        }
        homes = _homes(found)
        return tuple(_module(name, module, found, homes) for name, module in modules.items())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _import_all() -> Iterator[tuple[str, ModuleType]]:
    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_") and name not in LEFT_OUT:
            yield from _import(name)
    for name in EXTRA:
        yield from _import(name)


def _import(name: str) -> Iterator[tuple[str, ModuleType]]:
    # Some modules exist for another system only and say so by whatever error comes first.
    try:
        module = importlib.import_module(name)
    except Exception:
        return
    yield name, module
    if name in CLOSED or not hasattr(module, "__path__"):
        return
    for part in pkgutil.iter_modules(module.__path__):
        if not part.name.startswith("_") and part.name not in ("test", "tests"):
            yield from _import(f"{name}.{part.name}")


def _offered(name: str, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the classes and functions that a module offers, by name."""
    declared = {n: getattr(module, n, None) for n in getattr(module, "__all__", ())}
    things = {n: thing for n, thing in declared.items() if _has_page(thing)}
    if not things:
        own = {name, f"_{name}", module.__name__} | BORROWED.get(name, set())
        things = {
            n: thing
            for n, thing in vars(module).items()
            if _has_page(thing) and getattr(thing, "__module__", None) in own
        }
    for offered in sorted(things):
        if not offered.startswith("_") and f"{name}.{offered}" not in REPLACEABLE:
            yield offered, things[offered]


def _has_page(thing: Any) -> bool:
    return inspect.isclass(thing) or inspect.isroutine(thing)


def _homes(found: Found) -> dict[int, Key]:
    """Choose one page for each thing: where it says it comes from, or else its first."""
    homes: dict[int, Key] = {}
    for key, thing in found.items():
        said = (getattr(thing, "__module__", ""), getattr(thing, "__name__", ""))
        homes.setdefault(id(thing), said if found.get(said) is thing else key)
    return homes


def _module(name: str, module: ModuleType, found: Found, homes: dict[int, Key]) -> Module:
    doc = without_title(doc_of(module), name)
    return Module(
        name=name,
        doc=doc,
        summary=summary_of(doc, name),
        source=source_of(module),
        entries=tuple(_entry(key, found[key], homes) for key in found if key[0] == name),
        constants=tuple(_constants(module)),
    )


def _constants(module: ModuleType) -> Iterator[Constant]:
    for name, value in sorted(vars(module).items()):
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", name) and type(value) in (int, float):
            yield Constant(name, repr(value))


def _entry(key: Key, thing: Any, homes: dict[int, Key]) -> Entry:
    name = key[1]
    doc = "" if _is_generated(thing) else doc_of(thing)
    signature = signature_of(name, thing)
    if signature is None:
        signature, doc = spoken_signature(name, doc)
    source, line = place_of(thing)
    plain = Entry(
        *key,
        kind=_kind(thing),
        signature=signature,
        doc=doc,
        summary=summary_of(doc),
        home=homes[id(thing)],
        source=source,
        line=line,
    )
    if not plain.is_class:
        return plain
    return dataclasses.replace(
        plain,
        bases=bases_of(thing, homes),
        members=tuple(members_of(thing)),
        special=special_of(thing),
        inherited=tuple(inherited_by(thing, homes)),
    )


def _is_generated(thing: Any) -> bool:
    """Say whether the docstring is only the signature that ``dataclass`` wrote there."""
    if not inspect.isclass(thing) or not dataclasses.is_dataclass(thing):
        return False
    return str(thing.__doc__).startswith(f"{thing.__name__}(")


def _kind(thing: Any) -> str:
    if inspect.isclass(thing):
        return "exception" if issubclass(thing, BaseException) else "class"
    return "coroutine" if inspect.iscoroutinefunction(thing) else "function"
