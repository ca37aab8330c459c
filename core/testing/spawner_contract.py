"""What every ProcessSpawner promises."""

import asyncio
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from ..errors import SpawnFailed
from ..model.ending import (
    Cause,
    Channel,
    End,
    Exited,
    Signaled,
)
from ..model.job import (
    JobId,
    JobSpec,
    JobState,
    new_job_id,
)
from ..ports import (
    OutputStore,
    Placement,
    PlacementKind,
    Process,
    ProcessSpawner,
    Progress,
)
from .contract import Contract

GRACE = 60.0
FOREVER = JobSpec("sleep", ["100000"])
PATIENCE = 60.0
"""Seconds after which an end that has not come will not come."""


class SpawnerBench:
    """A spawner and a store whose sinks it accepts.

    ``connect`` makes a spawner as each server makes its own, over the same state: what an earlier
    one has spawned is there.
    """

    def __init__(self, outputs: OutputStore, connect: Callable[[], ProcessSpawner]) -> None:
        self.outputs = outputs
        self.spawner = connect()
        self._connect = connect

    async def restart(self) -> None:
        """Put a new spawner in the place of the old one."""
        await self.spawner.close()
        self.spawner = self._connect()


@dataclass(frozen=True, slots=True)
class _Spawned:
    job: JobId
    process: Process


class SpawnerContract(Contract):
    """A suite of checks; ``make`` gives each a bench, and closes its spawner and store afterwards.

    The spawner knows the commands true, false, echo and sleep, and none called no-such-command.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[SpawnerBench]]) -> None:
        self._make = make

    async def check_spawner_and_store_fit(self) -> None:
        """Accept the store's sinks, and jobs that have no place of their own."""
        async with self._make() as bench:
            assert bench.outputs.sink_kind in bench.spawner.accepts_sinks
            assert PlacementKind.NONE in bench.spawner.accepts

    async def check_exit_code_is_what_the_command_returned(self) -> None:
        """Tell the exit code, and no cause for an end that nobody brought about."""
        async with self._make() as bench:
            for command, code in (("true", 0), ("false", 1)):
                async with _spawned(bench, JobSpec(command)) as spawned:
                    end = await _wait(spawned.process)
                    assert Exited(code) == end.ending
                    assert Cause.NONE is end.cause
                    assert 0 == end.oom_kills

    async def check_output_is_complete_when_wait_returns(self) -> None:
        """Have every byte in the store, and its exact number in the end, once a job is over."""
        async with self._make() as bench:
            for size in (0, 1, 4095, 65536, 100_000):
                async with _spawned(bench, JobSpec("echo", ["x" * size])) as spawned:
                    end = await _wait(spawned.process)
                    assert {Channel.OUTPUT: size + 1} == dict(end.output)
                    assert b"x" * size + b"\n" == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_arguments_may_be_a_megabyte(self) -> None:
        """Hand arguments over as they are, however many, however long, whatever is in them."""
        async with self._make() as bench:
            args = ["a b", "", "'\"$HOME", "two\nlines", "\N{GRINNING FACE}", *["y" * 100_000] * 10]
            async with _spawned(bench, JobSpec("echo", args)) as spawned:
                await _wait(spawned.process)
                expected = " ".join(args).encode() + b"\n"
                assert expected == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_split_output_is_kept_apart(self) -> None:
        """Record stdout and stderr each in its channel, and the size of both."""
        spec = JobSpec("echo", ["out"], split_output=True)
        async with self._make() as bench, _spawned(bench, spec) as spawned:
            end = await _wait(spawned.process)
            assert {Channel.STDOUT: 4, Channel.STDERR: 0} == dict(end.output)
            assert b"out\n" == await _output(bench, spawned.job, Channel.STDOUT)
            assert b"" == await _output(bench, spawned.job, Channel.STDERR)

    async def check_jobs_run_side_by_side(self) -> None:
        """Mix up no two jobs, however many run at once."""
        async with self._make() as bench:

            async def run(number: int) -> int:
                async with _spawned(bench, JobSpec("echo", [str(number)])) as spawned:
                    await _wait(spawned.process)
                    return int(await _output(bench, spawned.job, Channel.OUTPUT))

            assert list(range(30)) == await asyncio.gather(*(run(number) for number in range(30)))

    async def check_a_command_that_does_not_exist_leaves_nothing(self) -> None:
        """Say what the kernel says, and know of no such job then."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, (Channel.OUTPUT,))
            failure: SpawnFailed | None = None
            try:
                await bench.spawner.spawn(job, JobSpec("no-such-command"), Placement(), sinks)
            except SpawnFailed as error:
                failure = error
            assert failure is not None
            assert errno.ENOENT == failure.errno
            assert "no-such-command" in str(failure)
            assert job not in await bench.spawner.recover()
            await bench.restart()
            assert job not in await bench.spawner.recover()
            await bench.outputs.remove(job)

    async def check_the_parent_of_jobs_is_there(self) -> None:
        """Tell whose children jobs are, also before there is one; the next server hears the same."""
        async with self._make() as bench:
            parent = await bench.spawner.parent()
            os.kill(parent, 0)
            async with _spawned(bench, FOREVER):
                await bench.restart()
                assert parent == await bench.spawner.parent()

    async def check_placement_is_told(self) -> None:
        """Know where each job was born, also in the next server, and when it is over."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            assert Placement() == spawned.process.placement
            await bench.restart()
            process = (await bench.spawner.recover())[spawned.job]
            assert Placement() == process.placement
            await process.stop(signal.SIGKILL, 0.0)
            await _wait(process)
            await bench.restart()
            assert Placement() == (await bench.spawner.recover())[spawned.job].placement

    async def check_pid_and_start_are_told(self) -> None:
        """Know the main process, different for jobs that run at once, and when it was executed."""
        async with self._make() as bench:
            before = time.time()
            async with _spawned(bench, FOREVER) as one, _spawned(bench, FOREVER) as other:
                assert 0 < one.process.pid != other.process.pid > 0
                assert before <= one.process.started_at <= other.process.started_at <= time.time()

    async def check_progress_tells_state_and_ending(self) -> None:
        """Show a job as running until its end, and how it ended from then on, also later."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            assert Progress(JobState.RUNNING) == spawned.process.progress
            await spawned.process.stop(signal.SIGTERM, GRACE)
            await _wait(spawned.process)
            expected = Progress(JobState.EXITED, Signaled(signal.SIGTERM), Cause.STOPPED)
            assert expected == spawned.process.progress
            await bench.restart()
            assert expected == (await bench.spawner.recover())[spawned.job].progress

    async def check_stop_sends_the_signal(self) -> None:
        """Ask with the signal that was chosen; the end has it, and the cause."""
        async with self._make() as bench:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
                async with _spawned(bench, FOREVER) as spawned:
                    await spawned.process.stop(number, GRACE)
                    end = await _wait(spawned.process)
                    assert Signaled(number) == end.ending
                    assert Cause.STOPPED is end.cause

    async def check_no_grace_is_sigkill(self) -> None:
        """Kill at once where no time is given."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            await spawned.process.stop(signal.SIGTERM, 0.0)
            assert Signaled(signal.SIGKILL) == (await _wait(spawned.process)).ending

    async def check_a_second_stop_joins(self) -> None:
        """End a job once, however many want it, and take a stop that comes after the end."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            await asyncio.gather(*(spawned.process.stop(signal.SIGTERM, GRACE) for _ in range(5)))
            end = await _wait(spawned.process)
            assert Signaled(signal.SIGTERM) == end.ending
            await spawned.process.stop(signal.SIGKILL, 0.0)
            assert end == await _wait(spawned.process)

    async def check_timeout_ends_a_job(self) -> None:
        """End a job whose time is up, and say that this was why."""
        spec = JobSpec("sleep", ["100000"], timeout=0.01)
        async with self._make() as bench, _spawned(bench, spec) as spawned:
            end = await _wait(spawned.process)
            assert Signaled(signal.SIGTERM) == end.ending
            assert Cause.TIMED_OUT is end.cause

    async def check_any_number_can_wait(self) -> None:
        """Tell all waiters the same end; one that is cancelled takes nothing from the others."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            waiters = [asyncio.create_task(spawned.process.wait()) for _ in range(10)]
            await asyncio.sleep(0)  # lets them begin
            waiters.pop().cancel()
            await spawned.process.stop(signal.SIGTERM, GRACE)
            end = await _wait(spawned.process)
            assert [end] * 9 == await asyncio.wait_for(asyncio.gather(*waiters), PATIENCE)
            assert end == await _wait(spawned.process)

    async def check_survivors_are_the_processes_that_are_left(self) -> None:
        """Name the main process while it is there, and nobody once the job is over."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            survivors = await spawned.process.survivors()
            assert [spawned.process.pid] == [each.pid for each in survivors]
            assert all(len(each.state) == 1 for each in survivors)
            await spawned.process.stop(signal.SIGKILL, 0.0)
            await _wait(spawned.process)
            assert [] == list(await spawned.process.survivors())

    async def check_running_jobs_are_recovered(self) -> None:
        """Run on without a server; the next one finds the same process, and can end it."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            await bench.restart()
            process = (await bench.spawner.recover())[spawned.job]
            assert spawned.process.pid == process.pid
            assert spawned.process.started_at == process.started_at
            assert Progress(JobState.RUNNING) == process.progress
            await process.stop(signal.SIGTERM, GRACE)
            end = await _wait(process)
            assert Signaled(signal.SIGTERM) == end.ending
            assert Cause.STOPPED is end.cause

    async def check_an_end_is_kept_until_it_is_forgotten(self) -> None:
        """Tell each server how a job ended, the same every time, until one has taken note."""
        async with self._make() as bench, _spawned(bench, JobSpec("echo", ["out"])) as spawned:
            end = await _wait(spawned.process)
            for _ in range(2):
                await bench.restart()
                process = (await bench.spawner.recover())[spawned.job]
                assert end == await _wait(process)
                assert spawned.process.pid == process.pid
                assert spawned.process.started_at == process.started_at

    async def check_what_happens_meanwhile_is_not_missed(self) -> None:
        """Record output and end also while no server is there."""
        async with self._make() as bench, _spawned(bench, JobSpec("echo", ["out"])) as spawned:
            await bench.restart()
            end = await _wait((await bench.spawner.recover())[spawned.job])
            assert Exited(0) == end.ending
            assert {Channel.OUTPUT: 4} == dict(end.output)
            assert b"out\n" == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_forget_is_idempotent(self) -> None:
        """Know nothing of a job once that was said, nor mind being told twice; its output stays."""
        async with self._make() as bench, _spawned(bench, JobSpec("echo", ["out"])) as spawned:
            await _wait(spawned.process)
            for _ in range(2):
                await bench.spawner.forget(spawned.job)
                assert spawned.job not in await bench.spawner.recover()
            await bench.spawner.forget(new_job_id())
            await bench.restart()
            assert spawned.job not in await bench.spawner.recover()
            assert b"out\n" == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_close_can_be_repeated(self) -> None:
        """Disconnect once; a spawner that has nothing to let go of is closed already."""
        async with self._make() as bench:
            await bench.spawner.recover()
            await bench.spawner.close()
            await bench.spawner.close()


@asynccontextmanager
async def _spawned(bench: SpawnerBench, spec: JobSpec) -> AsyncIterator[_Spawned]:
    """Run a job, and leave nothing of it in the end."""
    job = new_job_id()
    sinks = await bench.outputs.create(job, spec.channels)
    process = await bench.spawner.spawn(job, spec, Placement(), sinks)
    try:
        yield _Spawned(job, process)
    finally:
        left = (await bench.spawner.recover()).get(job)
        if left is not None:
            await left.stop(signal.SIGKILL, 0.0)
            await left.wait()
        await bench.spawner.forget(job)
        await bench.outputs.remove(job)


async def _wait(process: Process) -> End:
    return await asyncio.wait_for(process.wait(), PATIENCE)


async def _output(bench: SpawnerBench, job: JobId, channel: Channel) -> bytes:
    size = (await bench.outputs.extent(job, channel)).end
    output = b""
    while len(output) < size:
        output += await bench.outputs.read(job, channel, len(output), size - len(output))
    return output
