"""Writing to stdout: all bytes, in order, without blocking the event loop."""

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
    """Return both ends of a pipe; a test may close the read end."""
    read, write = os.pipe()
    yield read, write
    os.close(write)


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_slow_reader_does_not_block_the_loop(pipe: tuple[int, int], *, blocking: bool) -> None:
    """While the pipe is full the event loop continues, and every byte arrives in the end."""
    read, write = pipe
    os.set_blocking(write, blocking)
    os.set_blocking(read, False)
    data = os.urandom(300_000)
    writing = asyncio.create_task(OutputDescriptor(write).write(data))
    received = b""
    while len(received) < len(data):
        await asyncio.sleep(0)  # if the writer blocked, this would never return
        with contextlib.suppress(BlockingIOError):
            received += os.read(read, 50_000)
    await writing
    assert data == received
    os.close(read)


async def test_a_reader_that_closes_the_pipe(pipe: tuple[int, int]) -> None:
    """PipeClosed is raised, also during a wait, and the descriptor is redirected to /dev/null."""
    read, write = pipe
    writing = asyncio.create_task(OutputDescriptor(write).write(bytes(300_000)))
    await asyncio.sleep(0)
    os.close(read)
    with pytest.raises(PipeClosed):
        await writing
    assert os.path.samestat(os.fstat(write), os.stat(os.devnull))


async def test_a_reader_that_closes_the_pipe_while_nothing_is_written(pipe: tuple[int, int]) -> None:
    """PipeClosed is raised without a write: a job may write nothing for hours."""
    read, write = pipe

    async def wait_until_closed() -> None:
        async with OutputDescriptor(write).until_closed():
            os.close(read)
            await asyncio.sleep(1000)

    with pytest.raises(PipeClosed):
        await wait_until_closed()


async def test_a_fifo_that_is_also_open_for_reading(tmp_path: Path) -> None:
    """Unread bytes in a FIFO that is open O_RDWR are not reported as a closed pipe."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    sink = OutputDescriptor(fifo)
    async with sink.until_closed():
        for _ in range(3):
            await sink.write(b"x")
            await asyncio.sleep(0.01)  # the loop would report it meanwhile
    assert b"xxx" == os.read(fifo, 10)
    os.close(fifo)


async def test_a_file_is_never_closed(tmp_path: Path) -> None:
    """A file has no reader, so that until_closed waits for nothing."""
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
async def test_failed_writes(open_target: Callable[[], int], reason: str) -> None:
    """A full disk and a descriptor that is not open for writing raise WriteFailed with the reason."""
    descriptor = open_target()
    with pytest.raises(WriteFailed, match=reason):
        await OutputDescriptor(descriptor).write(b"x")
    os.close(descriptor)


@given(st.lists(st.binary(max_size=10_000)))
def test_a_file_gets_every_byte(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    """A file gets exactly the written chunks, in order."""
    path = Path(tmp_path_factory.mktemp("out")) / "file"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

    async def scenario() -> None:
        sink = OutputDescriptor(descriptor)
        for chunk in chunks:
            await sink.write(chunk)

    asyncio.run(scenario())
    os.close(descriptor)
    assert b"".join(chunks) == path.read_bytes()
