"""The input of a job: exact, bounded, and durable, whichever of our processes die."""

import asyncio
import hashlib
import os
import random
import signal
from pathlib import Path

import pytest

from worker import JobId
from worker.core.errors import StorageUnavailable
from worker.core.model.ending import Exited, Signaled
from worker.core.model.input import InputState
from worker.core.steps import Step
from worker.linux.crash_points import VARIABLE
from worker.linux.state.job_directory import spool_path, stdin_fifo_path
from worker.linux.supervisor.job_input import HAS_CLOSED, POSITION_LOST

from ..support.followed import Until
from ..support.generations import Machine, Server
from ..support.waiting import awaited

MANY = 64 << 20
PIECE = 65520
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")


async def write_all(server: Server, job: JobId, data: bytes, first: int = 0) -> InputState:
    """Write bytes from ``first`` on, in pieces."""
    state = InputState(first)
    for offset in range(first, len(data), PIECE):
        state = await server.input_of(job).write_input(
            offset, data[offset : min(offset + PIECE, len(data))]
        )
    return state


async def test_a_large_binary_input_is_exact_and_takes_little_disk(machine: Machine) -> None:
    """All bytes arrive in order; what the job has read is freed."""
    data = random.Random(0).randbytes(MANY)
    async with machine.server() as server:
        job = await server.start("sha256sum", stdin=True)
        await write_all(server, job, data)
        spool = spool_path(machine.layout.job(job))
        assert os.stat(spool).st_size == MANY
        assert os.stat(spool).st_blocks * 512 < 16 << 20
        await server.input_of(job).end_input(MANY)
        assert Exited(0) == (await server.end(job)).ending
        assert hashlib.sha256(data).hexdigest().encode() in await server.output(job)
        assert not os.path.exists(spool)
        assert not os.path.exists(stdin_fifo_path(machine.layout.job(job)))


async def test_a_writer_waits_for_a_job_that_does_not_read(machine: Machine) -> None:
    """At most a megabyte and a pipe wait for the job; a cancelled write can be repeated."""
    data = random.Random(1).randbytes(3 << 20)
    gate = machine.home.parent / "gate"
    os.mkfifo(gate)
    async with machine.server() as server:
        job = await server.start("sh", "-c", f"read line < {gate}; exec sha256sum", stdin=True)
        writing = asyncio.create_task(write_all(server, job, data))
        await awaited(lambda: _has_accepted(server, job, 1 << 20))
        accepted = (await server.input_of(job).input()).accepted
        assert accepted <= (1 << 20) + 65536
        writing.cancel()
        await asyncio.wait({writing})
        await asyncio.to_thread(gate.write_text, "go\n")
        await write_all(server, job, data)
        await server.input_of(job).end_input(len(data))
        await server.end(job)
        assert hashlib.sha256(data).hexdigest().encode() in await server.output(job)


async def _has_accepted(server: Server, job: JobId, size: int) -> bool:
    return (await server.input_of(job).input()).accepted >= size


async def test_a_job_without_input_reads_dev_null(machine: Machine) -> None:
    """Without ``stdin`` a job reads the end of the file at once."""
    async with machine.server() as server:
        job = await server.start("readlink", "/proc/self/fd/0")
        await server.end(job)
        assert b"/dev/null\n" == await server.output(job)


async def test_stdin_is_a_blocking_read_only_fifo(machine: Machine) -> None:
    """The job has only the end for reading, without O_NONBLOCK, and no other process has that one."""
    script = "cat /proc/self/fdinfo/0; cat"
    async with machine.server() as server:
        job = await server.start("sh", "-c", script, stdin=True)
        await server.input_of(job).write_input(0, b"x")
        await server.input_of(job).end_input(1)
        await server.end(job)
        flags = next(line for line in (await server.output(job)).splitlines() if line.startswith(b"flags"))
        assert os.O_RDONLY == int(flags.split()[1], 8) & (os.O_ACCMODE | os.O_NONBLOCK)


@AS_ROOT
async def test_another_user_can_open_dev_stdin(machine: Machine) -> None:
    """A job with another user may open its stdin by name, as programs do."""
    async with machine.server() as server:
        job = await server.start("cat", "/dev/stdin", stdin=True, user="nobody")
        await server.input_of(job).write_input(0, b"by name")
        await server.input_of(job).end_input(7)
        assert Exited(0) == (await server.end(job)).ending
        assert b"by name" == await server.output(job)


async def test_a_job_that_closes_its_stdin(machine: Machine) -> None:
    """ENXIO and EPIPE: the writer learns that the job reads no more, and the job runs on."""
    async with machine.server() as server:
        job = await server.start("sh", "-c", "exec <&-; echo closed; exec sleep 1000", stdin=True)
        await awaited(lambda: _output_is(server, job, b"closed\n"))
        await server.input_of(job).write_input(0, b"too late")
        await awaited(lambda: _is_closed(server, job, HAS_CLOSED))
        assert HAS_CLOSED == (await server.input_of(job).end_input(8)).closed
        await server.found[job].stop(signal.SIGTERM, 10.0)
        await server.end(job)


async def _output_is(server: Server, job: JobId, output: bytes) -> bool:
    return await server.output(job) == output


async def _is_closed(server: Server, job: JobId, reason: str) -> bool:
    return (await server.input_of(job).input()).closed == reason


@pytest.mark.parametrize(
    "victims", ["recorder", "zygote", "recorder zygote", "supervisor", "supervisor recorder"]
)
async def test_input_is_exact_whichever_process_dies(machine: Machine, victims: str) -> None:
    """No byte is lost or repeated: the position of the input survives in the processes that remain."""
    data = random.Random(victims).randbytes(12 << 20)
    async with machine.server() as server:
        job = await server.start("sha256sum", stdin=True)
        for first in range(0, len(data), 1 << 20):
            writing = asyncio.create_task(write_all(server, job, data[: first + (1 << 20)], first))
            await asyncio.sleep(random.Random(first).uniform(0, 0.01))  # the moment of the kill
            await asyncio.to_thread(machine.kill, victims)
            await asyncio.wait_for(writing, 60)
        await server.input_of(job).end_input(len(data))
        assert Exited(0) == (await server.end(job)).ending
        assert hashlib.sha256(data).hexdigest().encode() in await server.output(job)


async def test_input_is_exact_if_the_recorder_dies_right_after_a_splice(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position of the spool has moved with the bytes: the next recorder does not repeat them."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    async with machine.server() as server:
        job = await server.start("cat", stdin=True)
        for number in range(5):
            crash_point = tmp_path / f"recorder.{Step.INPUT_SPLICED}"
            crash_point.touch()
            await server.input_of(job).write_input(2 * number, f"{number}\n".encode())
            await asyncio.to_thread(machine.until, lambda path=crash_point: not path.exists())
        await server.input_of(job).end_input(10)
        await server.end(job)
        assert b"0\n1\n2\n3\n4\n" == await server.output(job)


async def test_the_next_server_continues_the_input(machine: Machine) -> None:
    """What one server has accepted, the next one knows; the job reads it once."""
    async with machine.server() as server:
        job = await server.start("cat", stdin=True)
        assert InputState(4) == await server.input_of(job).write_input(0, b"one\n")
    async with machine.server() as server:
        assert InputState(4) == await server.input_of(job).input()
        await server.input_of(job).write_input(0, b"one\ntwo\n")
        await server.input_of(job).end_input(8)
        await server.end(job)
        assert b"one\ntwo\n" == await server.output(job)


@pytest.mark.parametrize("victims", ["recorder", "supervisor", "supervisor recorder"])
async def test_the_end_of_the_input_is_durable(machine: Machine, victims: str) -> None:
    """Once the end is accepted the job reads it, also if our processes die before."""
    gate = machine.home.parent / "gate"
    os.mkfifo(gate)
    async with machine.server() as server:
        job = await server.start("sh", "-c", f"read line < {gate}; wc -c", stdin=True)
        await write_all(server, job, bytes(500_000))
        await server.input_of(job).end_input(500_000)
        await asyncio.to_thread(machine.kill, victims)
        await asyncio.to_thread(gate.write_text, "go\n")
        assert Exited(0) == (await server.end(job)).ending
        assert b"500000" == (await server.output(job)).strip()


async def test_an_input_whose_position_is_lost(machine: Machine) -> None:
    """If supervisor and zygote die together, no more is passed on; the job does not take it for the end."""
    async with machine.server() as server:
        job = await server.start("cat", stdin=True)
        await server.input_of(job).write_input(0, b"one\n")
        await awaited(lambda: _output_is(server, job, b"one\n"))
        pids = [machine.helper("zygote"), *machine.generations().values()]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
        await awaited(lambda: _is_lost(server, job))
        for call in (server.input_of(job).write_input(4, b"two\n"), server.input_of(job).end_input(4)):
            with pytest.raises(StorageUnavailable, match=POSITION_LOST):
                await call
        await server.found[job].stop(signal.SIGTERM, 10.0)
        assert Signaled(signal.SIGTERM) == (await server.end(job)).ending
        assert b"one\n" == await server.output(job)


async def _is_lost(server: Server, job: JobId) -> bool:
    try:
        await server.input_of(job).input()
    except StorageUnavailable:
        return True
    return False


async def test_input_waits_for_space_on_a_full_disk(small_disk: Path, until: Until) -> None:
    """The writer waits, as a job does for its output; then every byte is passed on."""
    machine = Machine(small_disk / "state", until)
    gate = small_disk.parent / "gate"
    os.mkfifo(gate)
    async with machine.server() as server:
        job = await server.start("sh", "-c", f"read line < {gate}; sha256sum", stdin=True)
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(8 << 20))
        data = random.Random(2).randbytes(500_000)
        writing = asyncio.create_task(write_all(server, job, data))
        await asyncio.sleep(0)
        assert not writing.done()
        ballast.unlink()
        await asyncio.to_thread(gate.write_text, "go\n")
        await asyncio.wait_for(writing, 60)
        await server.input_of(job).end_input(len(data))
        assert Exited(0) == (await server.end(job)).ending
        assert hashlib.sha256(data).hexdigest().encode() in await server.output(job)
        ours = [*machine.generations().values(), machine.helper("recorder"), machine.helper("zygote")]
    # Until they have exited, the file system cannot be unmounted.
    await asyncio.to_thread(machine.until, lambda: not any(Path(f"/proc/{pid}").exists() for pid in ours))


async def test_no_file_is_left_of_a_start_that_failed(machine: Machine) -> None:
    """A command that cannot be executed leaves neither FIFO nor spool."""
    async with machine.server() as server:
        with pytest.raises(Exception, match="no-such-command"):
            await server.start("no-such-command", stdin=True)
        left = [name for _, _, files in os.walk(machine.layout.jobs) for name in files if "stdin" in name]
        assert [] == left
