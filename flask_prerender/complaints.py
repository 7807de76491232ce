"""What goes wrong, told in the log without flooding it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("flask_prerender")

_QUIET_SECONDS = 60.0
_KINDS = 1000


class Complaints:
    """Logs one line for each kind of trouble and minute, with the number of those left out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}
        self.renew_lock()

    def renew_lock(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, kind: str, message: str, *args: object, exc_info: bool = False) -> None:
        now = self._clock()
        with self._lock:
            since, left_out = self._told.get(kind, (float("-inf"), 0))
            if 0 <= now - since < _QUIET_SECONDS:
                self._told[kind] = (since, left_out + 1)
                return
            if len(self._told) > _KINDS:
                self._told.clear()
            self._told[kind] = (now, 0)
        if left_out:
            message += f" (and {left_out} more like it)"
        log.warning(message, *args, exc_info=exc_info)
