"""Generations of supervisors: one for each version of the code.

A new version starts new jobs by its own supervisor; the supervisor of an older version serves its
jobs until the last of them is forgotten. Each generation has its own directory.
"""

import os
from contextlib import suppress

from ..kernel.locks import holder_of, open_lock, try_lock
from .layout import Layout


def known_generations(layout: Layout) -> list[str]:
    """Return every generation that has, or had, a supervisor; "" is the generation of protocol 1."""
    with os.scandir(layout.supervisor) as entries:
        found = [entry.name for entry in entries if entry.is_dir()]
    return ["", *found] if (layout.supervisor / "lock").exists() else found


def running_supervisors(layout: Layout) -> list[int]:
    """Return the pid of each running supervisor. Do not call in a supervisor: see ``lock_of_dead``."""
    locks = (layout.generation(each) / "lock" for each in known_generations(layout))
    return [pid for pid in map(holder_of, locks) if pid]


def lock_of_dead(layout: Layout, generation: str) -> int | None:
    """Lock a generation without a supervisor; return the lock for the caller to close, None if it has one.

    Not for the caller's own generation: closing any descriptor of a file drops its locks (fcntl(2)).
    """
    lock = open_lock(layout.generation(generation) / "lock")
    if try_lock(lock):
        return lock
    os.close(lock)
    return None


def remove_if_dead(layout: Layout, generation: str) -> None:
    """Delete the directory of a generation whose supervisor has ended and whose jobs were adopted."""
    lock = lock_of_dead(layout, generation) if generation else None
    if lock is not None:
        directory = layout.generation(generation)
        with suppress(OSError):
            for entry in os.scandir(directory):
                os.unlink(entry)
            directory.rmdir()
        os.close(lock)
