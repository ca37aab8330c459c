"""The audit log in a file, which is rotated by size, or by logrotate(8) and `reopen`."""

import logging
import os
import stat
from contextlib import suppress
from errno import EINVAL, EIO, EPERM, EROFS
from pathlib import Path

from ..state.reserve import FOR_AUDIT, NO_SPACE, Reserve

_STORAGE_FAILURES = NO_SPACE | {EIO, EROFS}
"""These are no mistakes in the settings: the server starts, and the file is opened when that works."""

log = logging.getLogger(__name__)


class AuditFile:
    """A file with one record in each line; only its owner may read it when it is created here.

    A file of more than ``size`` bytes is renamed to NAME.1, that to NAME.2, and so on; ``keep`` of them are
    kept. With a size of 0 it is never renamed here. A full disk is written to with a share of the
    ``reserve``, if that is on the same disk. Raises OSError if the file cannot be opened, unless the disk
    is the reason.
    """

    def __init__(self, path: Path, *, size: int = 0, keep: int = 1, reserve: Reserve | None = None) -> None:
        self._path = path
        self._reserve = reserve
        self._size = size
        self._keep = keep
        self._rotation_trouble = ""
        self._file = -1
        try:
            self._file = _open(path)
        except OSError as error:
            if error.errno not in _STORAGE_FAILURES:
                raise

    def write(self, line: bytes) -> None:
        while True:
            try:
                self._write(line)
            except OSError as error:
                if error.errno not in NO_SPACE or not self._make_room():
                    raise
            else:
                return

    def _make_room(self) -> bool:
        """Take some of the reserve; return False if there is none for this file."""
        reserve, place = self._reserve, str(self._path.parent) if self._file < 0 else self._file
        return reserve is not None and reserve.shares_disk(place) and reserve.release(FOR_AUDIT)

    def _write(self, line: bytes) -> None:
        if self._file < 0:
            self._file = _open(self._path)
        found = os.fstat(self._file)
        if not found.st_nlink:  # what is written to a deleted file cannot be read
            self.reopen()
            found = os.fstat(self._file)
        elif self._size and found.st_size and found.st_size + len(line) > self._size:
            self._rotate(found)
            found = os.fstat(self._file)
        _append(self._file, line, found.st_size)

    def reopen(self) -> None:
        self._replace(_open(self._path))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _replace(self, opened: int) -> None:
        self.close()
        self._file = opened

    def _rotate(self, old: os.stat_result) -> None:
        """Begin a new file; if that is impossible, the old one grows.

        The new one is made first, so that at each moment there is one to write to.
        """
        try:
            if not self._has_its_name(old):
                self.reopen()
                return
            begun = _begin(self._name("new"))
            try:
                for number in reversed(range(1, self._keep)):
                    with suppress(FileNotFoundError):
                        self._name(str(number)).rename(self._name(str(number + 1)))
                self._path.rename(self._name("1"))
                self._name("new").rename(self._path)
            except OSError:
                os.close(begun)
                raise
        except OSError as error:
            if str(error) != self._rotation_trouble:
                log.warning("cannot rotate the audit log, it grows beyond %d bytes: %s", self._size, error)
            self._rotation_trouble = str(error)
            return
        self._replace(begun)
        self._rotation_trouble = ""

    def _has_its_name(self, file: os.stat_result) -> bool:
        """Whether no other program has moved the open file away."""
        try:
            return os.path.samestat(file, self._path.stat())
        except FileNotFoundError:
            return False

    def _name(self, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{suffix}")


def _open(path: Path) -> int:
    """Open a file to append to it, and complete its last line, which a crash may have cut."""
    # O_NONBLOCK: the open of a FIFO would wait for its reader.
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(file)
        _check(path, found.st_mode)
        if found.st_size and os.pread(file, 1, found.st_size - 1) != b"\n":
            _append(file, b"\n", found.st_size)
    except OSError:
        os.close(file)
        raise
    return file


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(EINVAL, "not a regular file", str(path))
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(EPERM, "others can write to it; run chmod 600", str(path))


def _begin(path: Path) -> int:
    """Make an empty file, in place of one that an interrupted rotation has left."""
    with suppress(FileNotFoundError):
        path.unlink()
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _append(file: int, text: bytes, size: int) -> None:
    """Write a text to a file of this size, or leave it as it is and raise OSError."""
    written = 0
    try:
        while written < len(text):
            written += os.write(file, text[written:])  # a full disk takes a part first
    except OSError:
        if written:
            with suppress(OSError):
                os.ftruncate(file, size)
        raise
