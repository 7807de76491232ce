"""One page of a batch on its way into the file store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..disk import failures
from ..errors import StoreError
from ..page import digest
from ..page import Page
from .index import seal

_OUTSIDE = frozenset({"", ".", ".."})


class Put:
    """A page, its bodies, and how far it came.

    :ivar paths: the blobs of the encodings that the tree has names for.
    :ivar held: the encodings whose places in the tree are ours. :ivar is_new: whether there was no
        directory for them.
    :ivar loose: the bodies that the page had until now.
    :ivar troubles: what is wrong with the tree. :ivar error: why the page is not stored.
    """

    def __init__(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        self.page, self.bodies = page, bodies
        self.record = page.to_json()
        self.seal = seal(self.record)
        self.paths: dict[str, str] = {}
        self.held: set[str] = set()
        self.is_new = False
        self.loose: set[str] = set()
        self.troubles: list[str] = []
        self.error: StoreError | None = None

    def fail(self, error: Exception, root: Path) -> None:
        """Keep what went wrong with this page from the others."""
        try:
            with failures("write", root):
                raise error
        except StoreError as told:
            self.error = told

    def check(self) -> None:
        """
        :raises StoreError: a body would be under a name that is not its digest, or a file outside.
        """
        page = self.page
        parts = page.file.split("/")
        if not _OUTSIDE.isdisjoint(parts) or "\\" in page.file or "\0" in page.file:
            raise StoreError(f"{page.key}: {page.file!r} is not a place below the public tree.")
        for variant in page.variants:
            body = self.bodies.get(variant.encoding)
            if body is not None and (len(body), digest(body)) != (variant.size, variant.digest):
                raise StoreError(
                    f"{page.key}: its {variant.encoding} body is not the one it names."
                )
