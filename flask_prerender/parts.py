"""What a ``Prerender`` is made of where the user chose nothing, and what is made of a choice."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

from .compress import Compressor
from .compress import default_compressors
from .compress import usable
from .coordination.base import Coordination
from .coordination.local import LocalCoordination
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
    if not settings.compress:
        return ()
    if compressors is None:
        return default_compressors()
    return usable(compressors)


def local_coordination(path: Path) -> Coordination:
    """Return the coordination of the processes of one machine."""
    # Milliseconds: nobody stores pages faster than one in each for long.
    return LocalCoordination(path, first=lambda: time.time_ns() // 1_000_000)
