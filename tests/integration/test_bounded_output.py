"""Output with a limit: the latest is kept at correct offsets after any crash; readers learn of gaps."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker import JobSpec
from worker.client.job import Job
from worker.core.model.ending import Channel
from worker.core.model.job import SMALLEST_OUTPUT, new_job_id
from worker.linux.ipc.framing import Decoder, encode
from worker.linux.output.store import RecorderStore
from worker.linux.recorder.shared_offsets import create_shared_offsets
from worker.linux.state.job_directory import segment_bases, segment_path

BOUND = SMALLEST_OUTPUT
LINES = 100_000
TEXT = b"".join(b"%07d\n" % number for number in range(LINES))


@pytest.fixture(scope="module")
def bounded(shared):
    """A job that has written more than its limit of output."""
    job = shared.start("--output-max", "256K", "seq", "-f", "%07.0f", "0", str(LINES - 1))
    facts = shared.wait(job)
    assert BOUND == facts["output_max"]
    return job, facts["output"]["output"]


def test_the_latest_output_is_kept(shared, bounded):
    """At most the limit and at least half of it, and the files agree."""
    job, extent = bounded
    assert len(TEXT) == extent["end"]
    assert BOUND // 2 <= extent["end"] - extent["first"] <= BOUND
    segments = (shared.home / "jobs" / job).glob("output-*")
    assert extent["end"] - extent["first"] == sum(path.stat().st_size for path in segments)
    wide = shared.worker("query", "-o", "wide", job)
    assert f"{len(TEXT)} bytes of output, kept from {extent['first']}, at most 256K" in wide


@pytest.mark.parametrize("offset", [0, 1, 7])
def test_a_stream_from_before_the_first_kept_byte(shared, bounded, offset):
    """It begins at that byte, and reports how many bytes are no longer kept."""
    job, extent = bounded
    streamed = shared.run("stream", "--offset", str(offset), job)
    assert TEXT[extent["first"] :] == streamed.stdout
    assert f"{extent['first'] - offset} bytes" in streamed.stderr.decode()
    assert "no longer kept" in streamed.stderr.decode()
    assert 0 == streamed.returncode


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--tail", "3"], 24),
        (["--tail-bytes", "10"], 10),
        (["--tail", "10000", "--no-follow"], 80_000),
        (["--offset", str(len(TEXT) - 5)], 5),
    ],
)
def test_kept_offsets_are_read_without_a_warning(shared, bounded, options, size):
    """Tails and kept offsets return their bytes, and there is no message."""
    streamed = shared.run("stream", *options, bounded[0])
    assert (TEXT[-size:], b"") == (streamed.stdout, streamed.stderr)


@pytest.mark.parametrize("options", [["--tail", str(2 * LINES)], ["--tail-bytes", str(2 * len(TEXT))]])
def test_a_tail_longer_than_what_is_kept(shared, bounded, options):
    """It returns all that is kept, and reports that bytes are missing."""
    job, extent = bounded
    streamed = shared.run("stream", *options, job)
    assert TEXT[extent["first"] :] == streamed.stdout
    assert f"{extent['first']} bytes from offset 0 on are no longer kept" in streamed.stderr.decode()


async def test_the_server_has_a_default_limit(install, tmp_path):
    """A job may have another limit, or none; with split output each channel has its part."""
    worker = install(tmp_path / "home")
    config = tmp_path / "worker.toml"
    config.write_text('[output]\nmax = "1M"\n')
    worker.worker("up", "--config", str(config))
    text = bytes(3 << 20)

    async with worker.client() as client:
        specs = [
            JobSpec("head", ["-c", str(len(text)), "/dev/zero"], output_max=limit)
            for limit in (None, 0, 2 << 20)
        ] + [JobSpec("head", ["-c", str(len(text)), "/dev/zero"], split_output=True)]
        jobs = [(await client.start(spec)).id for spec in specs]
        by_default, unbounded, own, split = [await Job(client, job).wait() for job in jobs]
    assert [1 << 20, 0, 2 << 20, 1 << 20] == [
        each.record.output_max for each in (by_default, unbounded, own, split)
    ]
    for status, most in ((by_default, 1 << 20), (own, 2 << 20)):
        extent = status.output[Channel.OUTPUT]
        assert most // 2 <= extent.end - extent.first <= most
    assert 0 == unbounded.output[Channel.OUTPUT].first
    extent = split.output[Channel.STDOUT]
    assert 1 << 18 <= extent.end - extent.first <= 1 << 19


def test_the_limit_applies_after_every_takeover(installation, tmp_path):
    """Another supervisor, and another recorder, continue with the limit of the first."""
    gate = tmp_path / "gate"
    wait_for_gate = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    half = LINES // 2
    job = installation.start(
        "--output-max", "256K", "sh", "-c",
        f"seq -f %07.0f 0 {half - 1}; {wait_for_gate}; seq -f %07.0f {half} {LINES - 1}",
    )  # fmt: skip
    for pid in (installation.server_pid(), installation.supervisor_pid(), installation.recorder_pid()):
        installation.kill(pid)
    installation.worker("up")
    gate.touch()
    extent = installation.wait(job)["output"]["output"]
    assert len(TEXT) == extent["end"]
    assert BOUND // 2 <= extent["end"] - extent["first"] <= BOUND
    assert TEXT[extent["first"] :] == installation.stream(job)


# --- the recorder alone


class Recorders:
    """Several recorders in turn for one job, started as its supervisor does."""

    def __init__(self, directory, bound):
        self._store = RecorderStore(directory)
        job = new_job_id()
        (self._sink,) = asyncio.run(self._store.create(job, [Channel.OUTPUT], bound)).values()
        self.directory = Path(self._sink.directory)
        self._lock = directory / "lock"
        self._ends = create_shared_offsets()
        self.fifo = os.open(self._sink.path, os.O_RDWR)
        self._process = None

    def start(self):
        """Start a recorder, and make it record."""
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "worker.linux.recorder"]
        self._process = subprocess.Popen(
            [*command, str(theirs.fileno()), str(self._lock), str(self._ends)],
            pass_fds=[theirs.fileno(), self._ends],
        )
        theirs.close()
        self._tell(
            {
                "record": self.directory.name,
                "directory": str(self.directory),
                "channels": ["output"],
                "segment_size": self._sink.segment_size,
                "most_segments": self._sink.most_segments,
                "ends": [0],
            }
        )

    def kill(self):
        """Kill it, as in a crash."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def finish(self):
        """Return the size of the output once it is complete."""
        self._tell({"finish": self.directory.name})
        decoder = Decoder()
        messages = []
        while not messages:
            messages = list(decoder.feed(self._socket.recv(65536)))
        self._socket.close()
        assert 0 == self._process.wait(60)
        os.close(self.fifo)
        os.close(self._ends)
        return messages[0]["output"]["output"]

    def _tell(self, message):
        self._socket.sendall(encode(message))


NUMBERS = b"".join(number.to_bytes(4, "big") for number in range(1 << 20))


@settings(max_examples=12, deadline=None)
@given(
    bound=st.integers(SMALLEST_OUTPUT // 2, 1 << 20),
    writes=st.lists(st.tuples(st.integers(1, 400_000), st.booleans()), min_size=3, max_size=10),
)
def test_killed_recorders_keep_a_correct_suffix(bound, writes):
    """Killed at any moment of random writes, they keep the latest bytes, each at its offset."""
    with TemporaryDirectory() as directory:
        recorders = Recorders(Path(directory), bound)
        recorders.start()
        written = 0
        for size, killed in writes:
            data = NUMBERS[written : written + size]
            writer = threading.Thread(target=write_all, args=(recorders.fifo, data))
            writer.start()
            if killed:
                recorders.kill()
                recorders.start()
            writer.join()
            written += size
        assert written == recorders.finish()
        bases = segment_bases(recorders.directory, Channel.OUTPUT)
        kept = b"".join(
            Path(segment_path(recorders.directory, Channel.OUTPUT, base)).read_bytes() for base in bases
        )
        assert written == bases[0] + len(kept)
        assert NUMBERS[bases[0] : written] == kept
        assert min(written, bound // 2) <= len(kept) <= bound


def write_all(fd, data):
    """Write as a job does."""
    while data:
        data = data[os.write(fd, data) :]
