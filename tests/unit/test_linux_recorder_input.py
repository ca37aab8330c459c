"""The recorder moves input from a spool into a FIFO, and reports what it has moved."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from worker.linux.ipc.framing import Decoder, Message, encode
from worker.linux.recorder.recorder import Recorder


class Feeding(NamedTuple):
    """A recorder, the supervisor's end of its connection, and the files of one job."""

    recorder: Recorder
    supervisor: socket.socket
    spool: int
    fifo: int
    job_end: int

    def feed(self, end: int | None = None, *, descriptors: bool = True) -> list[Message]:
        """Request that the input is moved; return what the recorder reports."""
        inodes = {"spool": os.fstat(self.spool).st_ino, "fifo": os.fstat(self.fifo).st_ino}
        message = encode({"feed": "job", **inodes, "end": end})
        socket.send_fds(self.supervisor, [message], (self.spool, self.fifo) if descriptors else ())
        self.recorder._receive()
        return self.reports()

    def reports(self) -> list[Message]:
        """Return what the recorder has reported since."""
        try:
            return list(Decoder().feed(self.supervisor.recv(65536, socket.MSG_DONTWAIT)))
        except BlockingIOError:
            return []


@pytest.fixture
def feeding(tmp_path: Path) -> Iterator[Feeding]:
    """A recorder without a process, and a job that has its stdin open."""
    ours, theirs = socket.socketpair()
    path = tmp_path / "stdin.fifo"
    os.mkfifo(path)
    job_end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    spool = os.open(tmp_path / "stdin.spool", os.O_RDWR | os.O_CREAT)
    with ours, theirs:
        yield Feeding(Recorder(theirs, memoryview(bytearray(8)).cast("Q")), ours, spool, fifo, job_end)
    for fd in (fifo, spool):
        os.close(fd)


def report(*, done: bool = False, closed: bool = False, lacking: bool = False) -> Message:
    """Return a report of the recorder."""
    return {"fed": "job", "done": done, "closed": closed, "lacking": lacking}


def test_bytes_are_moved_once(feeding: Feeding) -> None:
    """A repeated request moves only what was added; the position is that of the shared description."""
    os.pwrite(feeding.spool, b"one", 0)
    assert [report()] == feeding.feed()
    assert [] == feeding.feed()
    os.pwrite(feeding.spool, b"two", 3)
    assert [report()] == feeding.feed(descriptors=False)
    assert b"onetwo" == os.read(feeding.job_end, 100)
    assert 6 == os.lseek(feeding.spool, 0, os.SEEK_CUR)


def test_the_last_byte_ends_the_feed(feeding: Feeding) -> None:
    """Once all input is in the FIFO the recorder closes it; the reader then gets the end of the file."""
    os.pwrite(feeding.spool, b"all", 0)
    assert [report(done=True)] == feeding.feed(end=3)
    os.close(os.dup(feeding.fifo))
    assert b"all" == os.read(feeding.job_end, 100)


@pytest.mark.parametrize("data", [b"too late", b""])
def test_a_job_without_its_end_open(feeding: Feeding, data: bytes) -> None:
    """If no process can read any more, that is reported, with and without bytes to move."""
    os.close(feeding.job_end)
    os.pwrite(feeding.spool, data, 0)
    assert [report(done=True, closed=True)] == feeding.feed()


def test_missing_descriptors_are_requested_again(feeding: Feeding) -> None:
    """Descriptors that did not arrive are reported; with the next request the input is moved."""
    os.pwrite(feeding.spool, b"one", 0)
    assert [] == feeding.feed(descriptors=False)
    feeding.recorder._retries.pop()()
    assert [report(lacking=True)] == feeding.reports()
    assert [report()] == feeding.feed()
    assert b"one" == os.read(feeding.job_end, 100)


def test_a_full_fifo_is_waited_for(feeding: Feeding) -> None:
    """What does not fit is moved when the job has read; the recorder does not block."""
    size = 1 << 20
    os.pwrite(feeding.spool, bytes(size), 0)
    assert [report()] == feeding.feed(end=size)
    read = 0
    while read < size:
        read += len(os.read(feeding.job_end, 65536))
        (feed,) = feeding.recorder._feeds.values() or (None,)
        if feed is not None:
            feed.wake()
    assert report(done=True) in feeding.reports()
