"""The recorder over a real FIFO: frequent small writes, the end of the output, and its messages."""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from worker.core.model.ending import Channel
from worker.core.ports import RecordedFifo
from worker.core.steps import Step, add_step_hook, remove_step_hook
from worker.linux.ipc.dataclass_messages import to_message
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
        self.recorder = Recorder(other, memoryview(bytearray(8)).cast("Q"))
        self.thread = threading.Thread(target=self.recorder.run)
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


# As a supervisor of commit 9acfd5d sent it, but for the directory.
OLD_MESSAGE = (
    b'{"record":"job","directory":"DIRECTORY","channels":["stdout","stderr"],"segment_size":4,'
    b'"most_segments":2,"ends":[1,0]}'
)


def test_the_message_of_the_previous_version(tmp_path: Path) -> None:
    """FIFOs and segments of all channels are in the directory of the job, with one size for all."""
    message = OLD_MESSAGE.replace(b"DIRECTORY", bytes(tmp_path))
    for channel in ("stdout", "stderr"):
        os.mkfifo(tmp_path / f"{channel}.fifo")
    written = {f"{tmp_path}/stdout.fifo": b"0123456789", f"{tmp_path}/stderr.fifo": b"abc"}
    assert {"stdout": 10, "stderr": 3} == drained(message, written)
    assert {"stdout-4": b"4567", "stdout-8": b"89", "stderr-0": b"abc"} == segments_in(tmp_path)


def test_sinks_anywhere(tmp_path: Path) -> None:
    """Each channel has a FIFO, a directory, and segments of its own, as the message names them."""
    sinks = []
    for number, (size, most) in enumerate([(4, 0), (8, 2)]):
        (tmp_path / f"{number}").mkdir()
        os.mkfifo(tmp_path / f"{number}" / "any name")
        sinks.append(RecordedFifo(f"{tmp_path}/{number}/any name", f"{tmp_path}/{number}", size, most))
    message = {"record": "job", "channels": ["stdout", "stderr"], "ends": [0, 1]}
    message["sinks"] = [to_message(sink) for sink in sinks]
    written = {sinks[0].path: b"0123456789", sinks[1].path: b"abc"}
    assert {"stdout": 10, "stderr": 3} == drained(json.dumps(message).encode(), written)
    assert {"stdout-0": b"0123", "stdout-4": b"4567", "stdout-8": b"89"} == segments_in(tmp_path / "0")
    assert {"stderr-0": b"abc"} == segments_in(tmp_path / "1")


def drained(message: bytes, written: dict[str, bytes]) -> object:
    """Have a recorder record a job that has written to its FIFOs; return the sizes that it reports."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    fifos = [os.open(path, os.O_RDWR) for path in written]
    for fifo, data in zip(fifos, written.values(), strict=True):
        os.write(fifo, data)
    framed = struct.pack(">I", len(message)) + message
    assert len(framed) == socket.send_fds(ours, [framed], fifos)
    recorder = threading.Thread(target=Recorder(theirs, memoryview(bytearray(16)).cast("Q")).run)
    recorder.start()
    ours.sendall(encode({"finish": "job"}))
    (answer,) = Decoder().feed(ours.recv(65536))
    ours.close()
    recorder.join()
    for fifo in fifos:
        os.close(fifo)
    assert "job" == answer["drained"]
    return answer["output"]


def segments_in(directory: Path) -> dict[str, bytes]:
    """Return the segments in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    """A job being recorded."""
    recorded = Recorded(tmp_path)
    yield recorded
    recorded.connection.sendall(encode({"drop": "job"}))  # of a test that has failed
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
    monkeypatch.setattr(channel_recording, "_FEW", 0)
    os.write(recorded.fifo, b"x")
    while not Path(segment_path(recorded.directory, Channel.OUTPUT, 0)).stat().st_size:
        time.sleep(0.02)  # then the thread waits for more output
    assert b"x" == recorded.finish()


def threads_for(recorded: Recorded, written: Sequence[bytes]) -> int:
    """Write to the job's FIFO, waiting for each to be recorded; return how many threads recorded it."""
    threads: list[int | None] = []

    def note(step: Step, job: object) -> None:
        del job
        if step is Step.SPLICED:
            threads.append(threading.get_ident())

    segment = Path(segment_path(recorded.directory, Channel.OUTPUT, 0))
    size = 0
    add_step_hook(note)
    try:
        for data in written:
            size, noted = size + len(data), len(threads)
            os.write(recorded.fifo, data)
            while segment.stat().st_size < size or len(threads) == noted:  # the step follows the write
                pass
    finally:
        remove_step_hook(note)
    return len(set(threads) - {recorded.thread.ident})


def test_small_output_needs_no_thread(recorded: Recorded) -> None:
    """The main thread records a few writes, of one pipe at most each."""
    written = [b"x", b"y" * 65536, b"z"]
    assert 0 == threads_for(recorded, written)
    assert b"".join(written) == recorded.finish()


def test_output_on_a_slow_disk_is_recorded_in_a_thread(recorded: Recorded) -> None:
    """After one slow write the main thread does not write, so that the disk delays no message."""
    recorded.recorder.disk.begin()
    time.sleep(0.03)  # as a write that waits for the disk
    recorded.recorder.disk.end()
    assert 1 == threads_for(recorded, [b"x"])
    assert b"x" == recorded.finish()


def test_small_output_that_does_not_fit_the_segment(tmp_path: Path) -> None:
    """The thread begins the next segment, and no byte is lost."""
    os.mkfifo(tmp_path / "output.fifo")
    job = {"record": "job", "directory": str(tmp_path), "channels": ["output"], "ends": [0]}
    message = json.dumps({**job, "segment_size": 4}).encode()
    assert {"output": 6} == drained(message, {f"{tmp_path}/output.fifo": b"012345"})
    assert {"output-0": b"0123", "output-4": b"45"} == segments_in(tmp_path)


class SentMessages(RecorderClient):
    """The supervisor's side without a recorder: it keeps the messages."""

    def __init__(self, lock: Path) -> None:
        super().__init__(Loop(), lock, lambda *_: None, lambda *_: None, lambda *_: None)
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
    sinks = {Channel.OUTPUT: RecordedFifo(f"{tmp_path}/fifo", str(tmp_path), 1)}
    client.record("job", sinks, [], terminal=0)
    client.drain("job")
    client.drop("job")
    client.feed("job", 0, 1, None)
    client.stop_feeding("job")
    client.set_log("debug", "json")
    client.bound_output(1 << 20)
    assert {name: set(names) for name, names in TO_RECORDER.items()} == fields(client.sent)


def test_a_recorder_sends_the_messages_of_the_protocol() -> None:
    """A supervisor of the version before understands these."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        recorder = Recorder(theirs, memoryview(bytearray(8)).cast("Q"))
        recorder.trouble("job", "No space left on device")
        recorder.drained("job", {Channel.OUTPUT: 1}, {Channel.OUTPUT: 2})
        recorder.fed("job")
        recorder.lacks_terminal("job")
        sent = list(Decoder().feed(ours.recv(65536)))
    assert {name: set(names) for name, names in TO_SUPERVISOR.items()} == fields(sent)
