"""The recorder over a real FIFO: what it costs when a job writes little and often."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.core.model.ending import Channel
from worker.core.steps import Step, add_step_hook, remove_step_hook
from worker.linux.ipc.framing import Decoder, encode
from worker.linux.recorder import channel_recording
from worker.linux.recorder.recorder import Recorder
from worker.linux.state.job_directory import fifo_path, segment_path


class Recorded:
    """A recorder in a thread of its own, recording one job; this end is its supervisor's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.connection, other = socket.socketpair()
        self.connection.settimeout(60)
        os.mkfifo(fifo_path(directory, Channel.OUTPUT))
        self.fifo = os.open(fifo_path(directory, Channel.OUTPUT), os.O_RDWR)
        Path(segment_path(directory, Channel.OUTPUT, 0)).touch()
        self.thread = threading.Thread(target=Recorder(other, memoryview(bytearray(8)).cast("Q")).run)
        self.thread.start()
        self.tell(
            record="job", directory=str(directory), channels=["output"], segment_size=1 << 20, ends=[0]
        )

    def tell(self, **message: Any) -> None:
        """Tell the recorder something."""
        self.connection.sendall(encode(message))

    def finish(self) -> bytes:
        """Return what is recorded, once it is all."""
        self.tell(finish="job")
        decoder = Decoder()
        while not any("drained" in message for message in decoder.feed(self.connection.recv(65536))):
            pass
        return Path(segment_path(self.directory, Channel.OUTPUT, 0)).read_bytes()


def test_what_a_job_writes_before_it_is_recorded_is_held(tmp_path: Path) -> None:
    """The message that tells of a job holds its FIFO, though everybody else has died and the job ended."""
    path = fifo_path(tmp_path, Channel.OUTPUT)
    os.mkfifo(path)
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    fifo = os.open(path, os.O_RDWR)
    job = {"record": "job", "directory": str(tmp_path), "channels": ["output"]}
    message = encode({**job, "segment_size": 1 << 20, "ends": [0]})
    assert len(message) == socket.send_fds(ours, [message], [fifo])
    os.write(fifo, b"last words")
    os.close(fifo)
    recorder = threading.Thread(target=Recorder(theirs, memoryview(bytearray(8)).cast("Q")).run)
    recorder.start()
    ours.sendall(encode({"finish": "job"}))
    assert {"drained": "job", "output": {"output": 10}} in list(Decoder().feed(ours.recv(65536)))
    ours.close()
    recorder.join()
    assert b"last words" == Path(segment_path(tmp_path, Channel.OUTPUT, 0)).read_bytes()


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    """A job that is recorded."""
    recorded = Recorded(tmp_path)
    yield recorded
    recorded.connection.close()
    recorded.thread.join()
    os.close(recorded.fifo)


def test_writes_that_come_thick_are_gathered(recorded: Recorded) -> None:
    """A fraction of the system calls, and every byte."""
    splices: list[Step] = []

    def note(step: Step, job: object) -> None:
        del job
        splices.append(step)

    add_step_hook(note)
    try:
        lines = [f"{number}\n".encode() for number in range(20_000)]
        for line in lines:
            os.write(recorded.fifo, line)
        assert b"".join(lines) == recorded.finish()
    finally:
        remove_step_hook(note)
    assert len(splices) < len(lines) / 20


def test_a_line_that_comes_alone_is_recorded(recorded: Recorded) -> None:
    """It waits for nothing that follows."""
    segment = Path(segment_path(recorded.directory, Channel.OUTPUT, 0))
    for count in range(1, 20):
        os.write(recorded.fifo, b"x")
        while segment.stat().st_size < count:
            pass
    assert b"x" * 19 == recorded.finish()


def test_the_end_waits_for_nothing(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes any more: a thread that waits for more output is told so."""
    monkeypatch.setattr(channel_recording, "_LINGER", 70_000)
    os.write(recorded.fifo, b"x")
    while not Path(segment_path(recorded.directory, Channel.OUTPUT, 0)).stat().st_size:
        time.sleep(0.02)  # after which the thread has come to its waiting
    assert b"x" == recorded.finish()
