"""What a terminal shows of a stream's progress."""

import os
import pty
import re
from collections.abc import Iterator

import pytest

from worker.cli.meter import Meter


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Give both ends of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_bytes_and_rate(terminal: tuple[int, int]) -> None:
    """The line tells how much has come and how fast, in units of people."""
    ours, theirs = terminal
    meter = Meter(theirs)
    meter.add(999)
    meter.add(1_500_000)
    meter.show(end="\n")
    line = os.read(ours, 1000).decode()
    assert re.fullmatch(r"1\.5 MB  \d+\.\d [kMG]B/s\x1b\[K\r\n", line), line


def test_a_terminal_that_is_gone(terminal: tuple[int, int]) -> None:
    """The bytes matter, not the line."""
    _, theirs = terminal
    gone = os.dup(theirs)
    os.close(gone)
    Meter(gone).show()
