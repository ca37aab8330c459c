"""The bound on the output of all jobs that a recorder records together."""

import threading
from errno import ENOBUFS

BOUND_REACHED = "the output of all jobs has reached its bound (setting output_total)"
"""The trouble of a job whose output waits for that."""


class OutputBound:
    """Counts the bytes that are kept; ``most``: the bound, None: there is none.

    It is derived from the segments: a recorder that takes over counts what it finds.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self._used = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """Count more bytes, or fewer if this is negative."""
        with self._lock:
            self._used += size

    def check(self) -> None:
        """Raise OSError if the bound is reached."""
        if self.most is not None and self._used >= self.most:
            raise OSError(ENOBUFS, BOUND_REACHED)


class CountedOutput:
    """The part of the bound that one channel uses."""

    def __init__(self, bound: OutputBound) -> None:
        self._bound = bound
        self._size = 0

    def keeps(self, size: int) -> None:
        """Note how many bytes are kept of the channel now."""
        self._bound.add(size - self._size)
        self._size = size
