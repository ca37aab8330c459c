"""Bytes to stdout: all of them, in order, without blocking anything else."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.terminal.console import PipeClosed, WriteFailed
from worker.cli.terminal.descriptor import OutputDescriptor


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Give both ends of a pipe; a test may close the reading one."""
    read, write = os.pipe()
    yield read, write
    os.close(write)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_slow_reader_holds_up_nobody_else(pipe: tuple[int, int], *, blocking: bool) -> None:
    """While the pipe is full the event loop goes on, and every byte arrives in the end."""
    read, write = pipe
    os.set_blocking(write, blocking)
    os.set_blocking(read, False)
    data = os.urandom(300_000)

    async def scenario() -> bytes:
        writing = asyncio.create_task(OutputDescriptor(write).write(data))
        received = b""
        while len(received) < len(data):
            await asyncio.sleep(0)  # if the writer blocked, we would never come back from here
            with contextlib.suppress(BlockingIOError):
                received += os.read(read, 50_000)
        await writing
        return received

    assert data == asyncio.run(scenario())
    os.close(read)


def test_a_reader_that_goes_away(pipe: tuple[int, int]) -> None:
    """A closed pipe is told as such, also in the middle of a wait; what we wrote to is given up."""
    read, write = pipe

    async def scenario() -> None:
        writing = asyncio.create_task(OutputDescriptor(write).write(bytes(300_000)))
        await asyncio.sleep(0)
        os.close(read)
        await writing

    with pytest.raises(PipeClosed):
        asyncio.run(scenario())
    assert os.path.samestat(os.fstat(write), os.stat(os.devnull))


def test_a_reader_that_goes_away_while_nothing_is_written(pipe: tuple[int, int]) -> None:
    """It is noticed at once: a job may be silent for hours."""
    read, write = pipe

    async def scenario() -> None:
        async with OutputDescriptor(write).until_closed():
            os.close(read)
            await asyncio.sleep(1000)

    with pytest.raises(PipeClosed):
        asyncio.run(scenario())


def test_a_fifo_that_is_open_for_reading_too(tmp_path: Path) -> None:
    """As the stdout of a job is: what we have written ourselves is no sign that the reader has gone."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    async def scenario() -> None:
        sink = OutputDescriptor(fifo)
        async with sink.until_closed():
            for _ in range(3):
                await sink.write(b"x")
                await asyncio.sleep(0.01)  # in which the loop would hear of it

    asyncio.run(scenario())
    assert b"xxx" == os.read(fifo, 10)
    os.close(fifo)


async def test_what_has_no_reader_is_never_closed(tmp_path: Path) -> None:
    """A file takes what it is given, and nothing is waited for."""
    with (tmp_path / "file").open("wb") as file:
        async with OutputDescriptor(file.fileno()).until_closed():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("open_target", "reason"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
        (lambda: os.open(os.devnull, os.O_RDONLY), "Bad file descriptor"),
    ],
)
def test_what_takes_nothing(open_target: Callable[[], int], reason: str) -> None:
    """A full disk and a descriptor that is not open for writing are told with the reason."""
    descriptor = open_target()
    with pytest.raises(WriteFailed, match=reason):
        asyncio.run(OutputDescriptor(descriptor).write(b"x"))
    os.close(descriptor)


@given(st.lists(st.binary(max_size=10_000)))
def test_a_file_gets_every_byte(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    """What is written to a file is what was given, in order."""
    path = Path(tmp_path_factory.mktemp("out")) / "file"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

    async def scenario() -> None:
        sink = OutputDescriptor(descriptor)
        for chunk in chunks:
            await sink.write(chunk)

    asyncio.run(scenario())
    os.close(descriptor)
    assert b"".join(chunks) == path.read_bytes()
