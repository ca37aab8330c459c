"""Locks by fcntl(2): they end with their process, and children do not inherit them, unlike flock(2)."""

import fcntl
import os
import signal
import struct
from contextlib import suppress

_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock: type, whence, start, length, pid."""


def open_lock(path: str | os.PathLike[str]) -> int:
    """Open a file to lock. Closing any descriptor of it in this process drops the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(fd: int) -> bool:
    """Take the lock; return False if another process holds it."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_holder(fd: int) -> int:
    """Return the pid of the process that holds the lock, 0 if none does."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question))
    return int(pid) if kind != fcntl.F_UNLCK else 0


def holder_of(path: str | os.PathLike[str]) -> int:
    """Return the pid of the process that holds the lock of a file, 0 if none does; not if we hold it."""
    fd = open_lock(path)
    try:
        return lock_holder(fd)
    finally:
        os.close(fd)


def stop_holder(path: str | os.PathLike[str]) -> None:
    """Terminate the process that holds the lock of a file, and wait until it has exited."""
    fd = open_lock(path)
    try:
        seize_lock(fd)
    finally:
        os.close(fd)


def seize_lock(fd: int) -> None:
    """Terminate the process that holds the lock by SIGTERM, wait until it has exited, take the lock."""
    holder = lock_holder(fd)
    if holder:
        with suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
            os.kill(holder, signal.SIGCONT)  # in a stopped process SIGTERM would stay pending
    fcntl.lockf(fd, fcntl.LOCK_EX)
