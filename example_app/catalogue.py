"""What the site shows: the modules of the standard library as plain, frozen values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from functools import cached_property
from threading import Lock

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Member:
    """Something that a class has: a method, a property, an attribute."""

    name: str
    kind: str
    signature: str
    doc: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A class or a function, as one module offers it."""

    module: str
    name: str
    kind: str
    signature: str
    doc: str
    summary: str
    home: Key
    source: str | None
    line: int | None
    bases: tuple[Key, ...] = ()
    members: tuple[Member, ...] = ()
    special: tuple[str, ...] = ()
    inherited: tuple[tuple[Key, tuple[str, ...]], ...] = ()

    @property
    def key(self) -> Key:
        return self.module, self.name

    @property
    def is_class(self) -> bool:
        return self.kind in ("class", "exception")

    @property
    def values(self) -> tuple[Member, ...]:
        """The members of an enumeration."""
        return tuple(member for member in self.members if member.kind == "value")

    @property
    def methods(self) -> tuple[Member, ...]:
        """Everything else that a class has."""
        return tuple(member for member in self.members if member.kind != "value")


@dataclass(frozen=True, slots=True)
class Constant:
    """A number in capitals that a module offers."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Module:
    """A module with everything it offers, sorted by name."""

    name: str
    doc: str
    summary: str
    source: str | None
    entries: tuple[Entry, ...]
    constants: tuple[Constant, ...]

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def classes(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.kind == "class")

    @property
    def exceptions(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.kind == "exception")

    @property
    def functions(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if not entry.is_class)


@dataclass(frozen=True)
class Catalogue:
    """Every module, and the ways to find something in them."""

    modules: tuple[Module, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Module]:
        return {module.name: module for module in self.modules}

    @cached_property
    def entries(self) -> Mapping[Key, Entry]:
        return {entry.key: entry for module in self.modules for entry in module.entries}

    @cached_property
    def by_source(self) -> Mapping[str, tuple[Module, ...]]:
        found: dict[str, list[Module]] = defaultdict(list)
        for module in self.modules:
            if module.source:
                found[module.source].append(module)
        return {source: tuple(modules) for source, modules in found.items()}

    @cached_property
    def subclasses(self) -> Mapping[Key, tuple[Key, ...]]:
        """The classes made directly from one, by its home; only the catalogue's own."""
        found: dict[Key, set[Key]] = defaultdict(set)
        for entry in self.entries.values():
            for base in entry.bases:
                found[base].add(entry.home)
        return {base: tuple(sorted(homes)) for base, homes in found.items()}

    @cached_property
    def aliases(self) -> Mapping[Key, tuple[Key, ...]]:
        """Every place where one thing can be imported from, by its home."""
        found: dict[Key, list[Key]] = defaultdict(list)
        for entry in self.entries.values():
            found[entry.home].append(entry.key)
        return {home: tuple(sorted(keys)) for home, keys in found.items()}

    @cached_property
    def letters(self) -> Mapping[str, tuple[Entry, ...]]:
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries.values():
            found[entry.name[0].lower()].append(entry)
        return {
            letter: tuple(sorted(found[letter], key=lambda e: (e.name.lower(), e.name, e.module)))
            for letter in sorted(found)
        }

    @cached_property
    def packages(self) -> Mapping[str, tuple[Module, ...]]:
        """Modules with their submodules, by the name at the top."""
        found: dict[str, list[Module]] = defaultdict(list)
        for module in self.modules:
            found[module.package].append(module)
        return {name: tuple(found[name]) for name in sorted(found, key=str.lower)}

    def family(self, name: str) -> tuple[Module, ...]:
        """The modules to see also: those of the same package."""
        package = name.partition(".")[0]
        return tuple(m for m in self.packages.get(package, ()) if m.name != name)

    def search(self, wanted: str, most: int = 60) -> list[Entry | Module]:
        """What a visitor may have meant, the likeliest first."""
        wanted = wanted.strip().lower()
        if not wanted:
            return []
        ranked = []
        things: list[Entry | Module] = [*self.modules, *self.entries.values()]
        for thing in things:
            rank = _rank(wanted, thing)
            if rank is not None:
                ranked.append(((rank, len(_path(thing)), _path(thing)), thing))
        return [thing for _, thing in sorted(ranked, key=lambda pair: pair[0])[:most]]


def _path(thing: Entry | Module) -> str:
    return thing.name if isinstance(thing, Module) else f"{thing.module}.{thing.name}"


def _rank(wanted: str, thing: Entry | Module) -> int | None:
    name, path = thing.name.lower(), _path(thing).lower()
    if wanted in (name, path):
        return 0
    if name.startswith(wanted) or path.startswith(wanted):
        return 1
    if wanted in path:
        return 2
    return 3 if wanted in thing.summary.lower() else None


@cache
def _read() -> Catalogue:
    from .introspection import read_modules  # it makes this module's values, so it comes later

    return Catalogue(read_modules())


_reading = Lock()


def catalogue() -> Catalogue:
    """Return the catalogue; the first call reads every module, and others wait for it."""
    with _reading:
        return _read()
