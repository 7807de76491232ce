"""The public tree: what a web server can serve as it stands, linked to the blobs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..disk import find_directory
from ..disk import make_directory
from ..disk import part_file
from ..disk import read_whole
from ..disk import write_whole
from ..page import digest
from ..page import IDENTITY
from ..page import SUFFIXES

#: Directories that were found a moment ago.
Known = set[str]

_NO_LINK = frozenset(
    getattr(errno, name)
    for name in ("EMLINK", "EXDEV", "EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EACCES")
    if hasattr(errno, name)
)


class Tree:
    """The files below ``public``. Those that are not ours are never written or removed.

    :param tmp: gives the directory for temporary names.
    :param blob_of: gives the blob that a digest names.
    """

    def __init__(self, root: Path, tmp: Callable[[], str], blob_of: Callable[[str], str]) -> None:
        self._root = root
        self._tmp = tmp
        self._blob_of = blob_of

    def claim(
        self, file: str, blobs: Mapping[str, str], held: Collection[str], known: Known
    ) -> tuple[set[str], list[str], bool]:
        """Return the encodings whose places are ours or free, what stands in other places, and
        whether there is no directory for them yet.

        :param blobs: the blob of each encoding of the page.
        :param held: the encodings whose places were ours before.
        :param known: directories that were found a moment ago; what is found is added.
        """
        try:
            parent = self._parent(file, known)
        except OSError as error:
            return set(held), [_reason(error, file)], False
        if parent is None:
            return set(blobs), [], True
        ours, foreign = set(), []
        for encoding in SUFFIXES:
            place = _place(parent, file, encoding)
            if encoding in blobs:
                free = encoding in held or not os.path.lexists(place)
                if free or _same(place, blobs[encoding]) or self._is_link(place):
                    ours.add(encoding)
                else:
                    foreign.append(f"{place} was not written by this store; remove it")
            elif encoding in held and os.path.lexists(place):
                ours.add(encoding)
        # Beside a file that is not ours, our encoded ones would answer in its name.
        return ours if IDENTITY in ours else ours & set(held), foreign, False

    def set(
        self,
        file: str,
        blobs: Mapping[str, str],
        held: Collection[str],
        known: Known,
        *,
        is_new: bool = False,
    ) -> tuple[bool, list[str]]:
        """Make the places that are `held` those of the given blobs.

        :param is_new: there was no directory for them a moment ago.

        Returns whether anything changed, and what went wrong. Encoded files go before the
        identity changes and come after it, so that the tree never offers two renders at once.
        """
        try:
            if is_new:
                self._link(file, {e: blobs[e] for e in held if e in blobs}, known, is_new=True)
                return True, []
            parent = self._parent(file, known)
            wrong = [e for e in SUFFIXES if e in held and not self._is_set(parent, file, e, blobs)]
            if not wrong:
                return False, []
            if parent is not None:
                for encoding in wrong:
                    if encoding != IDENTITY or encoding not in blobs:
                        _unlink(_place(parent, file, encoding))
            links = {encoding: blobs[encoding] for encoding in wrong if encoding in blobs}
            self._link(file, links, known)
        except OSError as error:
            return True, [_reason(error, file)]
        return True, []

    def remove(self, file: str, held: Collection[str]) -> None:
        """Remove the places that are `held`, and directories that are empty then.

        :raises OSError: a file is there and cannot be removed.
        """
        parent = self._parent(file, set())
        if parent is None:
            return
        for encoding in held:
            if encoding in SUFFIXES:
                _unlink(_place(parent, file, encoding))
        with suppress(OSError):
            for _ in file.split("/")[:-1]:
                Path(parent).rmdir()
                parent = parent.rpartition("/")[0]

    def has_one_of(self, file: str, inodes: Collection[tuple[int, int]]) -> bool:
        """Return whether one of a page's places is one of these files."""
        parent = self._parent(file, set())
        for encoding in SUFFIXES if parent is not None else ():
            with suppress(FileNotFoundError):
                found = os.lstat(_place(str(parent), file, encoding))
                if (found.st_dev, found.st_ino) in inodes:
                    return True
        return False

    def _parent(self, file: str, known: Known) -> str | None:
        return find_directory(self._root, "public", *file.split("/")[:-1], known=known)

    def _is_set(
        self, parent: str | None, file: str, encoding: str, blobs: Mapping[str, str]
    ) -> bool:
        place = None if parent is None else _place(parent, file, encoding)
        if encoding not in blobs:
            return place is None or not os.path.lexists(place)
        return place is not None and _same(place, blobs[encoding])

    def _is_link(self, place: str) -> bool:
        """Return whether a file is a link to a blob: then we made it, and the index was lost."""
        try:
            found = os.lstat(place)
            if found.st_nlink < 2:
                return False
            body = read_whole(place, found.st_size)
            return body is not None and Path(place).samefile(self._blob_of(digest(body)))
        except OSError:
            return False

    def _link(
        self, file: str, blobs: Mapping[str, str], known: Known, *, is_new: bool = False
    ) -> None:
        way = ("public", *file.split("/")[:-1])
        for attempt in range(3):
            parent = make_directory(self._root, *way, known=known, is_absent=is_new)
            try:
                for encoding, blob in blobs.items():
                    self._replace(blob, _place(parent, file, encoding))
                return
            except FileNotFoundError:
                # A deleter may have removed the directory while it was empty.
                known.clear()
                if attempt == 2:
                    raise

    def _replace(self, blob: str, place: str) -> None:
        try:
            with suppress(FileExistsError):
                os.link(blob, place)
                return
            with part_file(Path(self._tmp())) as part:
                os.link(blob, part)
                os.replace(part, place)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            write_whole(self._tmp(), place, Path(blob).read_bytes())


def _reason(error: OSError, file: str) -> str:
    return f"{error.filename2 or error.filename or file}: {error.strerror or error}"


def _place(parent: str, file: str, encoding: str) -> str:
    """Return where a directory has a page's file of an encoding."""
    name = f"{parent}/{file.rpartition('/')[2]}"
    return f"{name}.{SUFFIXES[encoding]}" if SUFFIXES[encoding] else name


def _unlink(place: str) -> None:
    Path(place).unlink(missing_ok=True)


def _same(place: str, blob: str) -> bool:
    """Return whether a file of the tree is the blob, or a copy of it."""
    try:
        wanted, found = os.lstat(blob), os.lstat(place)
        if (wanted.st_dev, wanted.st_ino) == (found.st_dev, found.st_ino):
            return True
        if wanted.st_size != found.st_size:
            return False
        body = read_whole(blob, wanted.st_size)
        return body is not None and body == read_whole(place, found.st_size)
    except OSError:
        return False
