"""Reads and writes kernel files; every file of cgroupfs is read and written here."""

import os
import re
from errno import ENODEV, EOPNOTSUPP
from typing import TypeAlias

_READ_SIZE = 65536
_HALF_A_PAGE = 2048

StrPath: TypeAlias = str | os.PathLike[str]


def write(path: StrPath, data: str) -> None:
    """Write ``data`` in one call; raise OSError that names the path, the data and the reason."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, data.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0)}, writing {data!r}"
        raise OSError(error.errno, reason, str(path)) from None


def read(path: StrPath) -> str | None:
    """Return the text of a kernel file, None if this kernel or this cgroup does not have the file."""
    try:
        # Not open(): a job has dozens of such files, and Python's open() takes three times as long.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, _READ_SIZE)
            # The kernel returns less than a page only at the end of the file (seq_file).
            while len(data) >= _HALF_A_PAGE and (more := os.read(descriptor, _READ_SIZE)):
                data += more
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        # ENODEV: the cgroup was removed while the file was open; EOPNOTSUPP: switched off at boot.
        if error.errno in {ENODEV, EOPNOTSUPP}:
            return None
        raise
    # A mount point or the name of a cgroup need not be UTF-8.
    return data.decode(errors="surrogateescape")


def read_count(path: StrPath) -> int | None:
    """Return the number in a file; None if the file does not exist or contains "max"."""
    text = (read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def number_after(text: str, key: str) -> int:
    """Return the number of a key in the text of a flat keyed file, 0 if there is none."""
    found = re.search(rf"^{key} (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def read_table(path: StrPath) -> dict[str, int]:
    """Return a flat keyed file (lines of "key number"); empty if the file does not exist."""
    pairs = (line.split() for line in (read(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
