"""The stdin of a simulated job."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from ..model.input import InputState


class FakeInput:
    """Accepts all bytes at once, while the program reads; ``read`` gets each of them once."""

    def __init__(self, read: Callable[[bytes], None]) -> None:
        self.state = InputState()
        self.ended = asyncio.Event()
        """Set when the program reads the end of the file."""
        self._read = read
        self.reading = asyncio.Event()
        """Whether the program reads; while it does not, writes wait."""
        self.reading.set()

    def set_writer(self, writer: str) -> None:
        """Record who writes from now on."""
        self.state = replace(self.state, writer=writer)

    async def write(self, offset: int, data: bytes) -> InputState:
        """Accept bytes once the program reads."""
        await self.reading.wait()
        if not self.state.closed:
            new = self.state.new_bytes(offset, data)
            self._read(new)
            self.state = replace(self.state, accepted=self.state.accepted + len(new))
        return self.state

    def end(self, offset: int) -> InputState:
        """End the input."""
        if not self.state.closed:
            self.state.check_end(offset)
            self.state = replace(self.state, ended=True)
            self.ended.set()
        return self.state

    def close(self, reason: str) -> None:
        """Accept no more bytes."""
        if not self.state.closed:
            self.state = replace(self.state, closed=reason)
            self.reading.set()
