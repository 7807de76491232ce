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
from .compress import usable
from .compress import USUAL_LEVELS
from .coordination.base import Coordination
from .coordination.local import LocalCoordination
from .errors import ConfigError
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


def chosen_compressors(
    compressors: Sequence[Compressor] | None, settings: Settings
) -> Sequence[Compressor]:
    """Return the compressors that are used.

    :raises ConfigError: one of them cannot be.
    """
    levels = settings.compress
    if compressors is not None and isinstance(levels, dict):
        raise ConfigError(
            f"PRERENDER_COMPRESS is {levels!r}, but Prerender(compressors=...) names compressors, "
            "which have levels of their own. Leave one of the two out."
        )
    if not levels:
        return ()
    if compressors is not None:
        return usable(compressors)
    return default_compressors() if levels is True else compressors_of(levels)


def compressors_of(levels: Mapping[str, int]) -> tuple[Compressor, ...]:
    """Return the compressors of a table of codec and level.

    :raises ConfigError: the library of one is not installed.
    """
    made = []
    for codec in USUAL_LEVELS:  # in one order, so that pages say alike what they were made with
        if codec not in levels:
            continue
        compressor = make_compressor(codec, levels[codec])
        if compressor is None:
            raise ConfigError(
                f"PRERENDER_COMPRESS is {levels!r}, and the library of {codec!r} is not installed: "
                f'pip install "Flask-Prerender[compress]", or leave {codec!r} out.'
            )
        made.append(compressor)
    return tuple(made)


def local_coordination(path: Path) -> Coordination:
    """Return the coordination of the processes of one machine."""
    # Milliseconds: nobody stores pages faster than one in each for long.
    return LocalCoordination(path, first=lambda: time.time_ns() // 1_000_000)
