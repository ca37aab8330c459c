"""Notices that a disk blocks the main thread of a process, which then leaves writes to another thread."""

import resource
import time

_SLOW = 0.02
"""Seconds of one write after which the disk is slow, if the thread waited for it."""

_SLOW_FOR = 10.0
"""Seconds for which a slow disk is left to other threads."""


class SlowDisk:
    """Whether the disk is slow; ``begin`` and ``end`` enclose each write of the main thread."""

    def __init__(self) -> None:
        self._until = 0.0
        self._began = 0.0
        self._waits = 0

    @property
    def is_slow(self) -> bool:
        """Whether a write could keep the main thread from its work."""
        return time.monotonic() < self._until

    def begin(self) -> None:
        """Note that a write begins."""
        self._waits = _waits()
        self._began = time.monotonic()

    def end(self) -> None:
        """Note that the write has ended."""
        now = time.monotonic()
        # Without a wait the thread was only preempted: other processes had the CPU.
        if now - self._began > _SLOW and _waits() > self._waits:
            self._until = now + _SLOW_FOR


def _waits() -> int:
    """Return how often this thread has waited: its voluntary context switches."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
