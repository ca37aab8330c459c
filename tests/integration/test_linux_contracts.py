"""The real spawner, store and recorder pass the same suites as the fakes."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from worker.core.model.ending import Channel
from worker.core.model.job import parse_job_id
from worker.core.ports import RecordedFifo, Sink
from worker.core.testing import (
    OutputBench,
    OutputStoreContract,
    SpawnerBench,
    SpawnerContract,
)
from worker.linux.ipc.dataclass_messages import to_message
from worker.linux.ipc.framing import Message, encode
from worker.linux.kernel.locks import lock_holder
from worker.linux.output.store import SEGMENT_SIZE, RecorderStore
from worker.linux.recorder.shared_offsets import create_shared_offsets
from worker.linux.spawner.spawner import SupervisorSpawner
from worker.linux.state.code_digest import this_generation
from worker.linux.state.job_directory import fifo_path
from worker.linux.state.layout import Layout

PATIENCE = 60.0
"""Seconds after which a wait has failed."""


def checks_of(contract: type) -> list[str]:
    """Return the names of a suite's checks, each to be run as a test of its own."""
    return [name for name in vars(contract) if name.startswith("check_")]


# --- the spawner


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return one state directory for all checks, and check that nothing remains in it."""
    path = tmp_path_factory.mktemp("state")
    yield path
    layout = Layout(path)
    assert [] == list(layout.jobs.iterdir())
    home = layout.generation(this_generation())
    for lock in ("lock", "recorder.lock"):
        wait_until_free(home / lock)
    assert not (home / "socket").exists()


def wait_until_free(lock: Path) -> None:
    """Return when no process holds the lock: its holder has exited."""
    deadline = time.monotonic() + PATIENCE
    fd = os.open(lock, os.O_RDWR)
    try:
        while holder := lock_holder(fd):
            assert time.monotonic() < deadline, f"process {holder} still holds {lock}"
            time.sleep(0.02)
    finally:
        os.close(fd)


@asynccontextmanager
async def supervised(state_dir: Path) -> AsyncIterator[SpawnerBench]:
    """Connect to the supervisor of a state directory."""
    outputs = RecorderStore(state_dir)
    bench = SpawnerBench(outputs, lambda: SupervisorSpawner(state_dir))
    try:
        yield bench
    finally:
        await bench.spawner.close()
        await outputs.close()


@pytest.mark.parametrize("check", checks_of(SpawnerContract))
async def test_supervisor_spawner(check: str, state_dir: Path) -> None:
    """SupervisorSpawner, with RecorderStore, passes the suite of a ProcessSpawner."""
    contract = SpawnerContract(partial(supervised, state_dir))
    await getattr(contract, check)()


@asynccontextmanager
async def elsewhere(state_dir: Path) -> AsyncIterator[SpawnerBench]:
    """Connect to the supervisor of a state directory; the store has another one."""
    outputs = RecorderStore(state_dir / "elsewhere")
    bench = SpawnerBench(outputs, lambda: SupervisorSpawner(state_dir))
    try:
        yield bench
    finally:
        await bench.spawner.close()
        await outputs.close()


@pytest.mark.parametrize("check", checks_of(SpawnerContract))
def test_supervisor_spawner_with_fifos_elsewhere(check: str, state_dir: Path) -> None:
    """The FIFOs and segments of a store may be anywhere; nothing is left in the directory of a job."""
    contract = SpawnerContract(partial(elsewhere, state_dir))
    asyncio.run(getattr(contract, check)())
    assert [] == list(Layout(state_dir / "elsewhere").jobs.iterdir())


# --- the store


@contextmanager
def recorder(lock: Path) -> Iterator[Callable[[Message], None]]:
    """Run a recorder as the supervisor does; the yielded function sends it a command."""
    ours, theirs = socket.socketpair()
    ends = create_shared_offsets()
    with ours, theirs:
        command = [sys.executable, "-P", "-m", "worker.linux.recorder", str(theirs.fileno()), str(lock)]
        process = subprocess.Popen([*command, str(ends)], pass_fds=[theirs.fileno(), ends])
        theirs.close()
        os.close(ends)
        yield lambda message: ours.sendall(encode(message))
    assert 0 == process.wait(PATIENCE)


class Writer:
    """Acts as the jobs: writes to their FIFOs while the recorder records them."""

    def __init__(self, outputs: RecorderStore, send: Callable[[Message], None]) -> None:
        self._outputs = outputs
        self._send = send
        self._recorded: set[str] = set()

    async def write(self, sink: Sink, data: bytes) -> None:
        """Write, and return when it is recorded."""
        assert isinstance(sink, RecordedFifo)
        job, channel = parse_job_id(Path(sink.directory).name), Channel(Path(sink.path).stem)
        self._record(sink)
        end = (await self._outputs.extent(job, channel)).end + len(data)
        # O_RDWR, as a job has it; open until all is recorded: a FIFO without a holder loses its content.
        fd = os.open(sink.path, os.O_RDWR)
        try:
            async with self._outputs.watch(job) as watch:
                assert len(data) == await asyncio.to_thread(os.write, fd, data)
                while (await self._outputs.extent(job, channel)).end < end:
                    await asyncio.wait_for(watch.changed(), PATIENCE)
        finally:
            os.close(fd)

    def drop(self) -> None:
        """Stop recording."""
        for job in self._recorded:
            self._send({"drop": job})

    def _record(self, sink: RecordedFifo) -> None:
        directory = Path(sink.directory)
        if directory.name not in self._recorded:
            self._recorded.add(directory.name)
            channels = [each for each in Channel if os.path.exists(fifo_path(directory, each))]
            first = len(self._recorded) * len(Channel)
            self._send(
                {
                    "record": directory.name,
                    "channels": channels,
                    "ends": list(range(first, first + len(channels))),
                    "sinks": [
                        to_message(replace(sink, path=fifo_path(directory, each))) for each in channels
                    ],
                }
            )


@asynccontextmanager
async def recorded(segment_size: int) -> AsyncIterator[OutputBench]:
    """Yield a store with its own recorder."""
    with TemporaryDirectory() as directory:
        outputs = RecorderStore(Path(directory), segment_size=segment_size)
        with recorder(Path(directory, "lock")) as send:
            writer = Writer(outputs, send)
            try:
                yield OutputBench(outputs, writer.write)
            finally:
                writer.drop()
                await outputs.close()


@pytest.mark.parametrize("segment_size", [65536, SEGMENT_SIZE])
@pytest.mark.parametrize("check", checks_of(OutputStoreContract))
async def test_recorder_store(check: str, segment_size: int) -> None:
    """RecorderStore, with the recorder, passes the suite of an OutputStore."""
    contract = OutputStoreContract(partial(recorded, segment_size))
    await getattr(contract, check)()
