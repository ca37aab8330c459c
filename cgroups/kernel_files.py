"""Reading and writing kernel files: the one way in and out of cgroupfs."""

import os
from errno import ENODEV, EOPNOTSUPP
from typing import TypeAlias

_AT_ONCE = 65536

StrPath: TypeAlias = str | os.PathLike[str]


def write(path: StrPath, data: str) -> None:
    """Hand over ``data`` in one call; raise OSError that names the path, the data and the reason."""
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
    """Return the text of a kernel file, or None where this kernel or this group has none such."""
    try:
        # Not by open(): a job has dozens of such files, and Python's takes three times as long.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = list(iter(lambda: os.read(descriptor, _AT_ONCE), b""))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        # ENODEV: the group was removed while the file was open; EOPNOTSUPP: switched off at boot.
        if error.errno in {ENODEV, EOPNOTSUPP}:
            return None
        raise
    # A mount point or the name of a group need not be UTF-8.
    return b"".join(parts).decode(errors="surrogateescape")


def read_count(path: StrPath) -> int | None:
    """Return the number in a file that holds one; None where there is none, or it says "max"."""
    text = (read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def read_table(path: StrPath) -> dict[str, int]:
    """Return a flat keyed file (lines of "key number"); empty where there is none such."""
    pairs = (line.split() for line in (read(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
