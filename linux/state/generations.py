"""Generations of supervisors: one for each version of the code.

A new version takes new jobs with a supervisor of its own; that of an older one serves the
jobs it has until the last of them is forgotten. Each has a directory of its own.
"""

import os
from contextlib import suppress

from ..kernel.locks import lock_holder, open_lock, try_lock
from .layout import Layout


def known_generations(layout: Layout) -> list[str]:
    """Return every generation that has, or had, a supervisor; "" is that of protocol 1."""
    with os.scandir(layout.supervisor) as entries:
        found = [entry.name for entry in entries if entry.is_dir()]
    return ["", *found] if (layout.supervisor / "lock").exists() else found


def running_supervisors(layout: Layout) -> list[int]:
    """Return the pid of each supervisor that runs. Not for a supervisor: see ``lock_of_dead``."""
    holders = []
    for generation in known_generations(layout):
        lock = open_lock(layout.generation(generation) / "lock")
        holders.append(lock_holder(lock))
        os.close(lock)
    return [pid for pid in holders if pid]


def lock_of_dead(layout: Layout, generation: str) -> int | None:
    """Return the locked lock of a generation without a supervisor, None if it has one: close it afterwards.

    Not for one's own: closing any descriptor of a locked file drops the lock (fcntl(2)).
    """
    lock = open_lock(layout.generation(generation) / "lock")
    if try_lock(lock):
        return lock
    os.close(lock)
    return None


def remove_if_dead(layout: Layout, generation: str) -> None:
    """Delete what is left of a generation whose supervisor has gone, once its jobs have another."""
    lock = lock_of_dead(layout, generation) if generation else None
    if lock is not None:
        directory = layout.generation(generation)
        with suppress(OSError):
            for entry in os.scandir(directory):
                os.unlink(entry)
            directory.rmdir()
        os.close(lock)
