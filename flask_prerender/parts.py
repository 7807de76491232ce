"""What a ``Prerender`` is made of where the user chose nothing, and what is made of a choice."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from .compress import Compressor
from .compress import default_compressors
from .compress import make_compressor
from .compress import Packer
from .compress import packers
from .compress import usable
from .compress import USUAL_LEVELS
from .coordination.base import Coordination
from .coordination.local import LocalCoordination
from .errors import ConfigError
from .settings import PREFIX
from .settings import Settings
from .stores.base import Store
from .stores.files import FileStore

StoreChoice = Store | Callable[[Path], Store]


def store_opener(store: StoreChoice | None, settings: Settings) -> Callable[[Path], Store]:
    """Return what opens the store of a directory."""
    if store is None:
        return lambda path: FileStore(path, durability=settings.durability)
    if callable(store):
        return store
    return lambda path: store


def chosen_packers(
    compressors: Sequence[Compressor] | None, settings: Settings
) -> tuple[Packer, Packer]:
    """Return what packs pages for visitors, and what packs those of builds.

    :raises ConfigError: a compressor cannot be used.
    """
    if compressors is not None:
        for name in ("compress", "compress_build"):
            levels = getattr(settings, name)
            if levels and levels is not True:
                raise ConfigError(
                    f"{PREFIX}{name.upper()} is {levels!r}, but Prerender(compressors=...) names "
                    "compressors, which have levels of their own. Leave one of the two out."
                )
        usual = usable(compressors) if settings.compress else ()
        return packers(usual, usual)
    if settings.compress is True:
        found = {each.encoding: each for each in default_compressors()}
    else:
        found = _made(settings.compress or {}, "COMPRESS")
    of_builds = found | _made(settings.compress_build, "COMPRESS_BUILD")
    return packers(_ordered(found), _ordered(of_builds))


def _ordered(compressors: Mapping[str, Compressor]) -> tuple[Compressor, ...]:
    """Return compressors in one order, so that pages say alike what they were made with."""
    return tuple(compressors[codec] for codec in USUAL_LEVELS if codec in compressors)


def _made(levels: Mapping[str, int], name: str) -> dict[str, Compressor]:
    """Return the compressors of a table of codec and level.

    :raises ConfigError: the library of one is not installed.
    """
    made = {}
    for codec, level in levels.items():
        compressor = make_compressor(codec, level)
        if compressor is None:
            raise ConfigError(
                f"{PREFIX}{name} is {levels!r}, and the library of {codec!r} is not installed: "
                f'pip install "Flask-Prerender[compress]", or leave {codec!r} out.'
            )
        made[codec] = compressor
    return made


def local_coordination(path: Path) -> Coordination:
    """Return the coordination of the processes of one machine."""
    # Milliseconds: nobody stores pages faster than one in each for long.
    return LocalCoordination(path, first=lambda: time.time_ns() // 1_000_000)
