"""The keys that a user types for a job, up to the keys that detach."""

import asyncio
from collections.abc import Awaitable, Callable

INTERRUPTS = b"\x03\x1a\x1c"
"""Ctrl-C, Ctrl-Z and Ctrl-\\: a terminal discards output that waits to be shown (termios(3), NOFLSH)."""

MOST_WAITING = 64 << 10
"""Bytes that were typed and not passed on yet, from which on no more are read."""


class DetachKeys:
    """Finds a sequence of keys in what is typed, in whichever pieces it arrives."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._begun = b""
        self.found = False

    def pass_on(self, keys: bytes) -> bytes:
        """Return the keys for the job; the beginning of the sequence is kept until it is not continued."""
        passed = bytearray()
        for number in keys:
            self._begun += bytes([number])
            while not self._sequence.startswith(self._begun):
                passed.append(self._begun[0])
                self._begun = self._begun[1:]
            if self._sequence and self._begun == self._sequence:
                self.found = True
                break
        return bytes(passed)


class Keyboard:
    """Reads what is typed, also while it cannot be passed on, so that the detach keys are seen.

    ``typed`` returns the next keys, none at the end.
    """

    def __init__(self, typed: Callable[[], Awaitable[bytes]], detach_keys: bytes) -> None:
        self.detached = asyncio.Event()
        self.interrupted = asyncio.Event()
        """Set by the keys that interrupt a program."""
        self._typed = typed
        self._detach_keys = DetachKeys(detach_keys)
        self._waiting = bytearray()
        self._changed = asyncio.Condition()
        self._over = False
        self._error: OSError | None = None

    async def run(self) -> None:
        """Read until the user detaches, or nothing more can be read."""
        try:
            while not self._detach_keys.found and (keys := await self._typed()):
                if any(key in INTERRUPTS for key in keys):
                    self.interrupted.set()
                async with self._changed:
                    self._waiting += self._detach_keys.pass_on(keys)
                    self._changed.notify_all()
                    await self._changed.wait_for(lambda: len(self._waiting) < MOST_WAITING)
        except OSError as error:
            self._error = error
        async with self._changed:
            self._over = True
            self._changed.notify_all()
        if self._detach_keys.found:
            self.detached.set()

    async def read(self) -> bytes | None:
        """Return the next keys for the job; None after the last one, since a terminal has no end of input.

        Raises OSError.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._over)
            keys = bytes(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        if not keys and self._error is not None:
            raise self._error
        return keys or None
