"""Counting what is in use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

_Key = TypeVar("_Key")


class Counts(dict[_Key, int]):
    """How much of something each one uses; one that uses nothing takes no memory.

    A Counter takes several times as long for this.
    """

    def __missing__(self, _: _Key) -> int:
        return 0

    def total(self) -> int:
        """Return how much all of them use."""
        return sum(self.values())

    def release(self, key: _Key, amount: int = 1) -> None:
        """Count so much no longer."""
        if left := self[key] - amount:
            self[key] = left
        else:
            self.pop(key, None)

    @contextmanager
    def one(self, key: _Key) -> Iterator[None]:
        """Count one more in the context."""
        self[key] += 1
        try:
            yield
        finally:
            self.release(key)
