"""Counting what is in use."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

_Key = TypeVar("_Key")


class Counts(Counter[_Key]):
    """How much of something each one uses; one that uses nothing takes no memory."""

    def release(self, key: _Key, amount: int = 1) -> None:
        """Count so much no longer."""
        self[key] -= amount
        if not self[key]:
            del self[key]

    @contextmanager
    def one(self, key: _Key) -> Iterator[None]:
        """Count one more in the context."""
        self[key] += 1
        try:
            yield
        finally:
            self.release(key)
