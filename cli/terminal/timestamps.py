"""The prefix of each line of output: when its first byte was written."""

from ...core.model.job import Chunk
from ..options.times import format_time
from .console import Failure


class TimestampedLines:
    """Adds the time to each line of a stream, and changes nothing else.

    A line that is divided between chunks has one prefix, that of its first byte. Where output is missing a
    line begins.
    """

    def __init__(self) -> None:
        self._position = 0
        self._line_begins = True

    def add(self, chunk: Chunk) -> bytes:
        """Return the output of the next chunk with prefixes; Failure if the server sends no times."""
        if not chunk.data:
            return b""
        if not chunk.time_ms:
            raise Failure("the server sends no times: it is of an earlier version")
        prefix = f"{format_time(chunk.time_ms)} ".encode()
        begins = self._line_begins or chunk.offset != self._position
        lines = chunk.data[:-1].replace(b"\n", b"\n" + prefix) + chunk.data[-1:]
        self._position = chunk.offset + len(chunk.data)
        self._line_begins = chunk.data.endswith(b"\n")
        return prefix + lines if begins else lines
