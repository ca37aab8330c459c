"""Worker.attach_input: one writer at a time, exact offsets, and the end of the input."""

import pytest

from worker.core import (
    ActionRefused,
    Channel,
    InputInterrupted,
    InputMisplaced,
    InputState,
    InputTaken,
    JobAlreadyFinished,
    JobId,
    JobSpec,
    WindowSize,
    Worker,
)
from worker.core.testing import FakeLimiter, FakeSpawner, MemoryOutputStore

CAT = JobSpec("cat", stdin=True)


class Bench:
    """A Worker, and the fakes that it uses."""

    def __init__(self) -> None:
        self.spawner, self.outputs = FakeSpawner(), MemoryOutputStore()
        self.worker = Worker(spawner=self.spawner, limiter=FakeLimiter(), outputs=self.outputs)

    async def output(self, job: JobId) -> bytes:
        """Return all output of a job that has finished."""
        await self.worker.wait(job)
        return await self.outputs.read(job, Channel.OUTPUT, 0, 1000)


async def test_bytes_reach_the_job_once() -> None:
    """Bytes that are repeated after a lost reply are skipped; the job reads the end of the input."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job) as writer:
        assert InputState() == await writer.state()
        assert InputState(3) == await writer.write(0, b"one")
        assert InputState(6) == await writer.write(0, b"onetwo")
        assert InputState(6, ended=True) == await writer.end(6)
    assert b"onetwo" == await bench.output(job)


@pytest.mark.parametrize(("offset", "data"), [(4, b"x"), (100, b"")])
async def test_a_gap_is_rejected(offset: int, data: bytes) -> None:
    """Bytes that do not continue the input are rejected, and change nothing."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job) as writer:
        await writer.write(0, b"one")
        with pytest.raises(InputMisplaced, match=f"the input continues at byte 3, not at {offset}"):
            await writer.write(offset, data)
        assert InputState(3) == await writer.state()


@pytest.mark.parametrize("offset", [2, 4])
async def test_an_end_at_another_offset_is_rejected(offset: int) -> None:
    """The input ends after the accepted bytes, neither before nor later."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job) as writer:
        await writer.write(0, b"one")
        with pytest.raises(InputMisplaced, match=f"cannot end at byte {offset}: 3 bytes were accepted"):
            await writer.end(offset)


async def test_no_bytes_follow_the_end() -> None:
    """Bytes after the end are rejected; bytes before it may be repeated."""
    bench = Bench()
    job = await bench.worker.start(JobSpec("sleep", ["1000"], stdin=True))
    async with bench.worker.attach_input(job) as writer:
        await writer.write(0, b"one")
        await writer.end(3)
        assert InputState(3, ended=True) == await writer.write(0, b"one")
        with pytest.raises(InputMisplaced, match="the input has ended at byte 3"):
            await writer.write(0, b"one more")


async def test_a_second_writer_is_refused() -> None:
    """Another session gets InputTaken until the writer has detached."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job, "mine") as writer:
        for other in ("", "yours"):
            with pytest.raises(InputTaken):
                async with bench.worker.attach_input(job, other):
                    raise AssertionError("two writers")
        await writer.write(0, b"one")
    async with bench.worker.attach_input(job, "yours") as writer:
        assert InputState(3) == await writer.state()


async def test_a_session_continues_after_a_lost_connection() -> None:
    """The same session replaces its own writer, whose late calls are refused."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job, "mine") as lost:
        await lost.write(0, b"one")
        async with bench.worker.attach_input(job, "mine") as writer:
            with pytest.raises(InputTaken):
                await lost.write(3, b"late")
            await writer.write(3, b"two")
            await writer.end(6)
    assert b"onetwo" == await bench.output(job)


@pytest.mark.parametrize("ends", [False, True])
async def test_a_session_cannot_resume_after_another_one(*, ends: bool) -> None:
    """Bytes or the end of the input from another session interrupt it, also once the job has finished."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job, "mine") as writer:
        await writer.write(0, b"one")
    async with bench.worker.attach_input(job, "yours") as other:
        await (other.end(3) if ends else other.write(3, b"two"))
    if ends:
        await bench.worker.wait(job)
    with pytest.raises(InputInterrupted, match=f"written to the stdin of job {job} meanwhile"):
        async with bench.worker.attach_input(job, "mine", resumes=True):
            raise AssertionError("resumed")


async def test_a_session_resumes_after_one_that_wrote_nothing() -> None:
    """A session that has only attached does not interrupt another one."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job, "mine", resumes=True) as writer:
        await writer.write(0, b"one")
    async with bench.worker.attach_input(job) as other:
        assert InputState(3) == await other.state()
    async with bench.worker.attach_input(job, "mine", resumes=True) as writer:
        assert InputState(6) == await writer.write(3, b"two")


async def test_the_input_of_a_terminal_has_no_end() -> None:
    """An end is refused, and the next client can type."""
    bench = Bench()
    job = await bench.worker.start(JobSpec("cat", stdin=True, terminal=WindowSize()))
    async with bench.worker.attach_input(job) as writer:
        with pytest.raises(ActionRefused, match="the input of a terminal has no end"):
            await writer.end(0)
    async with bench.worker.attach_input(job) as writer:
        assert InputState(1) == await writer.write(0, b"x")


async def test_writers_without_a_session_are_different_ones() -> None:
    """The input of a writer without a session cannot be resumed."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job) as writer:
        await writer.write(0, b"one")
    with pytest.raises(InputInterrupted):
        async with bench.worker.attach_input(job, resumes=True):
            raise AssertionError("resumed")


async def test_a_job_without_stdin_has_no_input() -> None:
    """Input is refused for a job that was started without an open stdin, and for a finished one."""
    bench = Bench()
    running = await bench.worker.start(JobSpec("sleep", ["1000"]))
    with pytest.raises(ActionRefused, match="was started without an open stdin"):
        async with bench.worker.attach_input(running):
            raise AssertionError("attached")
    finished = await bench.worker.start(JobSpec("true", stdin=True))
    await bench.worker.wait(finished)
    with pytest.raises(JobAlreadyFinished):
        async with bench.worker.attach_input(finished):
            raise AssertionError("attached")


async def test_a_job_that_closes_its_stdin() -> None:
    """Bytes for a job that reads no more are discarded; the state has the reason."""
    bench = Bench()
    job = await bench.worker.start(CAT)
    async with bench.worker.attach_input(job) as writer:
        await writer.write(0, b"one")
        bench.spawner.close_input(job)
        closed = InputState(3, closed="the job has closed its stdin")
        assert closed == await writer.write(3, b"two")
        assert closed == await writer.end(3)
