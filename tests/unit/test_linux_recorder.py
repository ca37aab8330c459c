"""The recorder over a real FIFO: frequent small writes, the end of the output, and its messages."""

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from worker.core.model.ending import Channel
from worker.core.model.job import Leftovers
from worker.core.ports import Placement
from worker.core.steps import Step, add_step_hook, remove_step_hook
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.ipc.event_loop import Loop
from worker.linux.ipc.framing import Decoder, Message, encode
from worker.linux.recorder import channel_recording
from worker.linux.recorder.client import RecorderClient
from worker.linux.recorder.protocol import TO_RECORDER, TO_SUPERVISOR
from worker.linux.recorder.recorder import Recorder
from worker.linux.state.job_directory import fifo_path, segment_path


class Recorded:
    """A recorder in a thread, recording one job; ``connection`` is the supervisor's end of the socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.connection, other = socket.socketpair()
        self.connection.settimeout(60)
        os.mkfifo(fifo_path(directory, Channel.OUTPUT))
        self.fifo = os.open(fifo_path(directory, Channel.OUTPUT), os.O_RDWR)
        Path(segment_path(directory, Channel.OUTPUT, 0)).touch()
        self.thread = threading.Thread(target=Recorder(other, memoryview(bytearray(8)).cast("Q")).run)
        self.thread.start()
        self.send(
            record="job", directory=str(directory), channels=["output"], segment_size=1 << 20, ends=[0]
        )

    def send(self, **message: Any) -> None:
        """Send a message to the recorder."""
        self.connection.sendall(encode(message))

    def finish(self) -> bytes:
        """Drain, and return the recorded output."""
        self.send(finish="job")
        decoder = Decoder()
        while not any("drained" in message for message in decoder.feed(self.connection.recv(65536))):
            pass
        return Path(segment_path(self.directory, Channel.OUTPUT, 0)).read_bytes()


def test_the_message_holds_output_written_before_it_is_received(tmp_path: Path) -> None:
    """The ``record`` message holds the FIFO open after every other process with it open has ended."""
    path = fifo_path(tmp_path, Channel.OUTPUT)
    os.mkfifo(path)
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    fifo = os.open(path, os.O_RDWR)
    job = {"record": "job", "directory": str(tmp_path), "channels": ["output"]}
    message = encode({**job, "segment_size": 1 << 20, "ends": [0]})
    assert len(message) == socket.send_fds(ours, [message], [fifo])
    os.write(fifo, b"last output")
    os.close(fifo)
    recorder = threading.Thread(target=Recorder(theirs, memoryview(bytearray(8)).cast("Q")).run)
    recorder.start()
    ours.sendall(encode({"finish": "job"}))
    assert {"drained": "job", "output": {"output": 11}} in list(Decoder().feed(ours.recv(65536)))
    ours.close()
    recorder.join()
    assert b"last output" == Path(segment_path(tmp_path, Channel.OUTPUT, 0)).read_bytes()


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    """A job being recorded."""
    recorded = Recorded(tmp_path)
    yield recorded
    recorded.connection.close()
    recorded.thread.join()
    os.close(recorded.fifo)


def test_frequent_small_writes_are_gathered(recorded: Recorded) -> None:
    """They need a fraction of the system calls, and no byte is lost."""
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


def test_a_single_write_is_recorded_at_once(recorded: Recorded) -> None:
    """It does not wait for further writes."""
    segment = Path(segment_path(recorded.directory, Channel.OUTPUT, 0))
    for count in range(1, 20):
        os.write(recorded.fifo, b"x")
        while segment.stat().st_size < count:
            pass
    assert b"x" * 19 == recorded.finish()


def test_finish_wakes_a_thread_that_lingers(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for more output stops waiting when the job has ended."""
    monkeypatch.setattr(channel_recording, "_LINGER", 70_000)
    os.write(recorded.fifo, b"x")
    while not Path(segment_path(recorded.directory, Channel.OUTPUT, 0)).stat().st_size:
        time.sleep(0.02)  # then the thread waits for more output
    assert b"x" == recorded.finish()


class SentMessages(RecorderClient):
    """The supervisor's side without a recorder: it keeps the messages."""

    def __init__(self, lock: Path) -> None:
        super().__init__(Loop(), lock, lambda *_: None, lambda *_: None)
        self.sent: list[Message] = []

    def _send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        del descriptors
        self.sent.append(message)


def fields(messages: list[Message]) -> dict[str, set[str]]:
    """Return the names of the fields of messages by their first key."""
    return {next(iter(message)): set(list(message)[1:]) for message in messages}


def test_a_supervisor_sends_the_messages_of_the_protocol(tmp_path: Path) -> None:
    """A recorder of the next version understands these: a change must be made in the table first."""
    client = SentMessages(tmp_path / "lock")
    plan = SpawnPlan(
        ("true",), {}, "/", None, None, (), Placement(), (Channel.OUTPUT,), 1, None, 1, Leftovers.KILL
    )
    client.record("job", str(tmp_path), plan, [])
    client.finish("job")
    client.drop("job")
    client.set_log("debug", "json")
    assert {name: set(names) for name, names in TO_RECORDER.items()} == fields(client.sent)


def test_a_recorder_sends_the_messages_of_the_protocol() -> None:
    """A supervisor of the version before understands these."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        recorder = Recorder(theirs, memoryview(bytearray(8)).cast("Q"))
        recorder.trouble("job", "No space left on device")
        recorder.drained("job", {Channel.OUTPUT: 1})
        sent = list(Decoder().feed(ours.recv(65536)))
    assert {name: set(names) for name, names in TO_SUPERVISOR.items()} == fields(sent)
