"""The reserve: disk space that is given back when the end of a job must be recorded on a full disk.

The file ``reserve-SIZE`` in the state directory takes up SIZE bytes, or fewer after some were given back.
Whoever is refused space for a record takes a step from it and writes at once. Other output and input wait
until the file has its size again, so that what was given back is not used up by a job that writes on.
"""

import os
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from typing import NamedTuple

_PREFIX = "reserve-"


class Share(NamedTuple):
    """How much of the reserve a purpose may use: the bytes that are given back at once, and what must stay.

    Another program that writes to this disk may take what was given back. ``stays`` is a part of the size.
    """

    step: int
    stays: float


FOR_ENDS = Share(1 << 20, 0)
"""Journal and histories: SQLite needs more than one record."""

FOR_OUTPUT = Share(1 << 20, 1 / 2)
"""The last output of a job that ends."""

FOR_AUDIT = Share(64 << 10, 3 / 4)
"""The audit log: whoever may make calls decides how much is written."""

NO_SPACE = {ENOSPC, EDQUOT}
"""The errors of a full disk."""


class Reserve:
    """The reserve of a state directory, if it has one; other processes use it at the same time."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.wanted = False
        """Whether output waits until the reserve has its size again: set by the caller on a full disk."""

    def resize(self, size: int) -> bool:
        """Give the reserve this size, 0: none; return whether it has it. OSError if refused.

        A new one is made only if that leaves at least as much space.
        """
        found = self._found()
        for name, _ in found:
            if not size:
                os.unlink(self._path(name))
            elif name != f"{_PREFIX}{size}":
                os.rename(self._path(name), self._path(f"{_PREFIX}{size}"))
        if not size:
            return True
        if not found and _free(self._directory) < 2 * size:
            return False
        path = self._path(f"{_PREFIX}{size}")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_size > size:
                os.ftruncate(file, size)
        finally:
            os.close(file)
        return self.refill()

    def release(self, share: Share = FOR_ENDS) -> bool:
        """Give back a step; return False if there is none to give."""
        with suppress(OSError):
            for name, size in self._found():
                file = os.open(self._path(name), os.O_RDWR | os.O_CLOEXEC)
                try:
                    held, least = os.fstat(file).st_size, int(size * share.stays)
                    if held > least:
                        os.ftruncate(file, max(least, held - share.step))
                        return True
                finally:
                    os.close(file)
        return False

    def shares_disk(self, place: str | int) -> bool:
        """Whether a path or a descriptor is on the same file system: only there the reserve is of use."""
        try:
            return os.stat(place).st_dev == os.stat(self._directory).st_dev
        except OSError:
            return False

    def refill(self) -> bool:
        """Take the missing space again; return whether nothing is missing. OSError if refused."""
        for name, size in self._found():
            file = os.open(self._path(name), os.O_RDWR | os.O_CLOEXEC)
            try:
                held = os.fstat(file).st_size
                # Some file systems allocate all that is free before they fail: the disk would be full.
                if held < size and (_free(file) < size - held or not _allocate(file, held, size)):
                    return False
            finally:
                os.close(file)
        return True

    def missing(self) -> int:
        """Return how many bytes of the reserve are missing."""
        return sum(size - os.stat(self._path(name)).st_size for name, size in self._found())

    def allows_output(self) -> bool:
        """Return whether output may be written; on a full disk, try to fill the reserve first."""
        if self.wanted:
            with suppress(OSError):
                self.wanted = not self.refill()
        return not self.wanted

    def _found(self) -> list[tuple[str, int]]:
        """Return the name of the file and its full size; nothing if there is no reserve."""
        try:
            names = os.listdir(self._directory)
        except OSError:
            return []
        sizes = ((name, name.removeprefix(_PREFIX)) for name in names if name.startswith(_PREFIX))
        return [(name, int(size)) for name, size in sizes if size.isdecimal()]

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def _free(place: str | int) -> int:
    """Return the free bytes of the file system of a path or a descriptor."""
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def _allocate(file: int, held: int, size: int) -> bool:
    try:
        os.posix_fallocate(file, held, size - held)
    except OSError as error:
        os.ftruncate(file, held)  # some file systems allocate what there is
        if error.errno in NO_SPACE:
            return False
        raise
    return True
