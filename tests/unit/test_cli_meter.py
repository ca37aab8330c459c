"""The progress of a stream on a terminal."""

import asyncio
import os
import pty
import re
from collections.abc import Iterator

import pytest

from worker.cli.terminal import meter
from worker.cli.terminal.meter import Meter


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Return both ends of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_bytes_and_rate(terminal: tuple[int, int]) -> None:
    """The line has the number of bytes and their rate, with units."""
    ours, theirs = terminal
    watched = Meter(theirs)
    watched.add(999)
    watched.add(1_500_000)
    watched.show(end="\n")
    line = os.read(ours, 1000).decode()
    assert re.fullmatch(r"1\.5 MB  \d+\.\d [kMG]B/s\x1b\[K\r\n", line), line


async def test_the_line_is_updated_while_no_bytes_arrive(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst is shown although nothing follows, and the rate falls to zero."""
    monkeypatch.setattr(meter, "_INTERVAL", 0.001)
    ours, theirs = terminal

    def shown(line: bytes) -> None:
        text = b""
        while line not in text:
            text = text[-50:] + os.read(ours, 100)

    watched = Meter(theirs)
    async with watched.ticking():
        await asyncio.to_thread(shown, b"0 B  0 B/s")
        watched.add(30_000_000)
        await asyncio.to_thread(shown, b"30.0 MB  ")
        await asyncio.to_thread(shown, b"30.0 MB  0 B/s")


def test_a_closed_terminal(terminal: tuple[int, int]) -> None:
    """A failure to write the line is ignored."""
    _, theirs = terminal
    gone = os.dup(theirs)
    os.close(gone)
    Meter(gone).show()
