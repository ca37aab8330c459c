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


def shown(terminal: int, end: str) -> str:
    """Return what is written to the terminal up to this text."""
    text = ""
    while end not in text:
        text += os.read(terminal, 100).decode()
    return text


def test_bytes_and_rate(terminal: tuple[int, int]) -> None:
    """The line has the number of bytes and their rate, with units."""
    ours, theirs = terminal
    watched = Meter(theirs)
    watched.add(999)
    watched.add(1_500_000)
    watched.show(end="\n")
    line = os.read(ours, 1000).decode()
    assert re.fullmatch(r"1\.5 MB  \d+\.\d [kMG]B/s\x1b\[K\r\n", line), line


def test_the_rate_is_the_current_one(terminal: tuple[int, int]) -> None:
    """A backlog that arrives in the first interval does not count two seconds later."""
    ours, theirs = terminal
    now = 0.0
    watched = Meter(theirs, clock=lambda: now)
    sizes = [1_000_000_000, 500, 500, 500, 500]
    for size in sizes:
        now += 0.5
        watched.add(size)
        watched.tick()
    os.write(theirs, b"end")
    lines = shown(ours, "end").split("\r")
    assert "1.0 GB  2.0 GB/s\x1b[K" == lines[0]
    assert "1.0 GB  1.0 kB/s\x1b[K" == lines[4]


def test_output_on_the_same_terminal(terminal: tuple[int, int]) -> None:
    """The line makes room for output of the job, and does not overwrite one that is incomplete."""
    ours, theirs = terminal
    watched = Meter(theirs, clock=lambda: 0.0)
    for text in (b"warn", b"ing\n"):
        watched.tick()
        watched.make_room(text)
        os.write(theirs, text)
    watched.tick()
    line = "0 B  0 B/s\x1b[K\r"
    assert line + "\x1b[Kwarning\r\n" + line == shown(ours, f"\n{line}")


async def test_the_line_is_updated_while_no_bytes_arrive(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst is shown although nothing follows, and the rate falls to zero."""
    monkeypatch.setattr(meter, "_INTERVAL", 0.001)
    ours, theirs = terminal

    watched = Meter(theirs)
    async with watched.ticking():
        await asyncio.to_thread(shown, ours, "0 B  0 B/s")
        watched.add(30_000_000)
        await asyncio.to_thread(shown, ours, "30.0 MB  ")
        await asyncio.to_thread(shown, ours, "30.0 MB  0 B/s")


def test_a_closed_terminal(terminal: tuple[int, int]) -> None:
    """A failure to write the line is ignored."""
    _, theirs = terminal
    gone = os.dup(theirs)
    os.close(gone)
    Meter(gone).show()
