"""The token of the pages of a build, read now and then and not for each of them."""

from __future__ import annotations

import time

from .site import Site

_SECONDS = 0.05


class Tokens:
    """The newest token that was given out, or one of a moment ago.

    An older one is as safe: a page loses against every claim that came after it, and a build that
    loses keeps the page that was made meanwhile.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        # Both at once: threads share this.
        self._read = (float("-inf"), 0)

    def read(self) -> int:
        """
        :raises StoreError: it cannot be read.
        """
        now = time.monotonic()
        read_at, token = self._read
        if not 0 <= now - read_at < _SECONDS:
            token = self._site.coordination.token()
            self._read = (now, token)
        return token
