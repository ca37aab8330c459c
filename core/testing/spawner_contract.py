"""The contract suite of ProcessSpawner."""

import asyncio
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from ..engine.capabilities import interactive, pausable, signalable
from ..errors import ActionRefused, InputMisplaced, SpawnFailed
from ..model.ending import (
    Cause,
    Channel,
    End,
    Exited,
    Signaled,
)
from ..model.input import InputState
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
TIMEOUT = 60.0
"""Seconds until a missing end fails a check."""


class SpawnerBench:
    """A spawner and a store whose sinks it accepts.

    ``connect`` creates a spawner on the same state, as each server does: it has the jobs that an
    earlier spawner has started.
    """

    def __init__(self, outputs: OutputStore, connect: Callable[[], ProcessSpawner]) -> None:
        self.outputs = outputs
        self.spawner = connect()
        self._connect = connect

    async def restart(self) -> None:
        """Replace the spawner with a new one, as at a restart of the server."""
        await self.spawner.close()
        self.spawner = self._connect()


@dataclass(frozen=True, slots=True)
class _Spawned:
    job: JobId
    process: Process


class SpawnerContract(Contract):
    """A suite of checks; ``make`` creates a bench for each, and closes its spawner and store afterwards.

    The spawner must support the commands true, false, echo and sleep, and cat if it can pass input; it
    must not have no-such-command.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[SpawnerBench]]) -> None:
        self._make = make

    async def check_spawner_and_store_are_compatible(self) -> None:
        """The spawner accepts the sinks of the store, and placement NONE."""
        async with self._make() as bench:
            assert bench.outputs.sink_kind in bench.spawner.accepts_sinks
            assert PlacementKind.NONE in bench.spawner.accepts

    async def check_exit_code(self) -> None:
        """The end has the exit code of the command, and no cause if the job was not stopped."""
        async with self._make() as bench:
            for command, code in (("true", 0), ("false", 1)):
                async with _spawned(bench, JobSpec(command)) as spawned:
                    end = await _wait(spawned.process)
                    assert Exited(code) == end.ending
                    assert Cause.NONE is end.cause
                    assert 0 == end.oom_kills

    async def check_output_is_complete_when_wait_returns(self) -> None:
        """When ``wait`` returns, the store has every byte and the end has the exact size."""
        async with self._make() as bench:
            for size in (0, 1, 4095, 65536, 100_000):
                async with _spawned(bench, JobSpec("echo", ["x" * size])) as spawned:
                    end = await _wait(spawned.process)
                    assert {Channel.OUTPUT: size + 1} == dict(end.output)
                    assert b"x" * size + b"\n" == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_arguments_of_a_megabyte(self) -> None:
        """Arguments are passed unchanged, whatever their number, length and content."""
        async with self._make() as bench:
            args = ["a b", "", "'\"$HOME", "two\nlines", "\N{GRINNING FACE}", *["y" * 100_000] * 10]
            async with _spawned(bench, JobSpec("echo", args)) as spawned:
                await _wait(spawned.process)
                expected = " ".join(args).encode() + b"\n"
                assert expected == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_split_output_is_separate(self) -> None:
        """The channels stdout and stderr are recorded separately, with the size of each."""
        spec = JobSpec("echo", ["out"], split_output=True)
        async with self._make() as bench, _spawned(bench, spec) as spawned:
            end = await _wait(spawned.process)
            assert {Channel.STDOUT: 4, Channel.STDERR: 0} == dict(end.output)
            assert b"out\n" == await _output(bench, spawned.job, Channel.STDOUT)
            assert b"" == await _output(bench, spawned.job, Channel.STDERR)

    async def check_jobs_run_concurrently(self) -> None:
        """The output of concurrent jobs is never mixed."""
        async with self._make() as bench:

            async def run(number: int) -> int:
                async with _spawned(bench, JobSpec("echo", [str(number)])) as spawned:
                    await _wait(spawned.process)
                    return int(await _output(bench, spawned.job, Channel.OUTPUT))

            assert list(range(30)) == await asyncio.gather(*(run(number) for number in range(30)))

    async def check_a_command_that_does_not_exist_leaves_nothing(self) -> None:
        """``spawn`` raises SpawnFailed with the errno of the kernel, and the job is unknown afterwards."""
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

    async def check_the_parent_of_jobs_exists(self) -> None:
        """``parent`` returns an existing pid, also before the first job, and the same after a restart."""
        async with self._make() as bench:
            parent = await bench.spawner.parent()
            os.kill(parent, 0)
            async with _spawned(bench, FOREVER):
                await bench.restart()
                assert parent == await bench.spawner.parent()

    async def check_placement_of_a_job(self) -> None:
        """The placement of a job is available after a restart and after its end."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            assert Placement() == spawned.process.placement
            await bench.restart()
            process = (await bench.spawner.recover())[spawned.job]
            assert Placement() == process.placement
            await process.stop(signal.SIGKILL, 0.0)
            await _wait(process)
            await bench.restart()
            assert Placement() == (await bench.spawner.recover())[spawned.job].placement

    async def check_pid_and_start_of_a_job(self) -> None:
        """Each job has the pid of its main process, which is unique, and the time of its exec."""
        async with self._make() as bench:
            before = time.time()
            async with _spawned(bench, FOREVER) as one, _spawned(bench, FOREVER) as other:
                assert 0 < one.process.pid != other.process.pid > 0
                assert before <= one.process.started_at <= other.process.started_at <= time.time()

    async def check_progress_has_state_and_ending(self) -> None:
        """A job is RUNNING until its end; then its progress has the ending, also after a restart."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            assert Progress(JobState.RUNNING) == spawned.process.progress
            await spawned.process.stop(signal.SIGTERM, GRACE)
            await _wait(spawned.process)
            expected = Progress(JobState.EXITED, Signaled(signal.SIGTERM), Cause.STOPPED)
            assert expected == spawned.process.progress
            await bench.restart()
            assert expected == (await bench.spawner.recover())[spawned.job].progress

    async def check_stop_sends_the_signal(self) -> None:
        """``stop`` sends the requested signal; the end has this signal and the cause STOPPED."""
        async with self._make() as bench:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
                async with _spawned(bench, FOREVER) as spawned:
                    await spawned.process.stop(number, GRACE)
                    end = await _wait(spawned.process)
                    assert Signaled(number) == end.ending
                    assert Cause.STOPPED is end.cause

    async def check_no_grace_period_is_sigkill(self) -> None:
        """A stop with a grace period of 0 sends SIGKILL."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            await spawned.process.stop(signal.SIGTERM, 0.0)
            assert Signaled(signal.SIGKILL) == (await _wait(spawned.process)).ending

    async def check_a_second_stop_joins(self) -> None:
        """Concurrent stops end the job once; a stop after the end is no error."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            await asyncio.gather(*(spawned.process.stop(signal.SIGTERM, GRACE) for _ in range(5)))
            end = await _wait(spawned.process)
            assert Signaled(signal.SIGTERM) == end.ending
            await spawned.process.stop(signal.SIGKILL, 0.0)
            assert end == await _wait(spawned.process)

    async def check_signal_all(self) -> None:
        """A spawner that can signal can also signal every process at the beginning of a stop."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            if hasattr(spawned.process, "signal"):
                await signalable(spawned.process).stop(signal.SIGTERM, GRACE, signal_all=True)
                assert Signaled(signal.SIGTERM) == (await _wait(spawned.process)).ending

    async def check_a_signal_is_only_sent(self) -> None:
        """If the spawner can signal: a signal changes no state, and is no cause of the end."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            if not hasattr(spawned.process, "signal"):
                return
            for all_processes in (False, True):
                await spawned.process.signal(signal.SIGCONT, all_processes=all_processes)
                assert Progress(JobState.RUNNING) == spawned.process.progress
            await spawned.process.signal(signal.SIGTERM)
            end = await _wait(spawned.process)
            assert (Signaled(signal.SIGTERM), Cause.NONE) == (end.ending, end.cause)

    async def check_pause_and_resume(self) -> None:
        """If spawner and host can pause: a pause ends with resume or stop, and survives a restart."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            try:
                await pausable(spawned.process).pause()
            except ActionRefused:
                return
            await bench.restart()
            process = pausable((await bench.spawner.recover())[spawned.job])
            for _ in range(2):
                await process.pause()
                assert Progress(JobState.RUNNING, paused=True) == process.progress
            for _ in range(2):
                await process.resume()
                assert Progress(JobState.RUNNING) == process.progress
            await process.pause()
            await process.stop(signal.SIGTERM, GRACE)
            assert Signaled(signal.SIGTERM) == (await _wait(process)).ending
            assert not process.progress.paused

    async def check_input_reaches_the_job_once(self) -> None:
        """If the spawner can pass input: bytes are read once and in order, also if they are repeated."""
        async with self._make() as bench, _spawned(bench, JobSpec("cat", stdin=True)) as spawned:
            if not hasattr(spawned.process, "write_input"):
                return
            process = interactive(spawned.process)
            assert InputState() == await process.input()
            await process.set_input_writer("somebody")
            assert InputState(6) == await process.write_input(0, b"first\n")
            await bench.restart()
            process = interactive((await bench.spawner.recover())[spawned.job])
            assert InputState(6) == await process.input()
            assert "somebody" == (await process.input()).writer
            assert InputState(13) == await process.write_input(0, b"first\nsecond\n")
            for misplaced in (process.write_input(14, b"x"), process.end_input(12)):
                try:
                    await misplaced
                except InputMisplaced:
                    continue
                raise AssertionError("accepted bytes after a gap, or an end before the last byte")
            for _ in range(2):
                state = await process.end_input(13)
                assert (13, True) == (state.accepted, state.ended)
            end = await _wait(process)
            assert Exited(0) == end.ending
            assert b"first\nsecond\n" == await bench.outputs.read(spawned.job, Channel.OUTPUT, 0, 100)
            closed = await process.write_input(13, b"too late")
            assert (13, True) == (closed.accepted, bool(closed.closed))

    async def check_timeout_ends_a_job(self) -> None:
        """A job is stopped at its timeout, with the cause TIMED_OUT."""
        spec = JobSpec("sleep", ["100000"], timeout=0.01)
        async with self._make() as bench, _spawned(bench, spec) as spawned:
            end = await _wait(spawned.process)
            assert Signaled(signal.SIGTERM) == end.ending
            assert Cause.TIMED_OUT is end.cause

    async def check_concurrent_waiters(self) -> None:
        """All waiters get the same end; cancelling one does not affect the others."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            waiters = [asyncio.create_task(spawned.process.wait()) for _ in range(10)]
            await asyncio.sleep(0)  # the waiters begin to wait
            waiters.pop().cancel()
            await spawned.process.stop(signal.SIGTERM, GRACE)
            end = await _wait(spawned.process)
            assert [end] * 9 == await asyncio.wait_for(asyncio.gather(*waiters), TIMEOUT)
            assert end == await _wait(spawned.process)

    async def check_survivors_are_the_remaining_processes(self) -> None:
        """``survivors`` returns the main process while it runs, and no process after the end."""
        async with self._make() as bench, _spawned(bench, FOREVER) as spawned:
            survivors = await spawned.process.survivors()
            assert [spawned.process.pid] == [each.pid for each in survivors]
            assert all(len(each.state) == 1 for each in survivors)
            await spawned.process.stop(signal.SIGKILL, 0.0)
            await _wait(spawned.process)
            assert [] == list(await spawned.process.survivors())

    async def check_running_jobs_are_recovered(self) -> None:
        """A job keeps running without a server; the next server finds the same process and can stop it."""
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
        """Each server gets the same end of a job until one calls ``forget``."""
        async with self._make() as bench, _spawned(bench, JobSpec("echo", ["out"])) as spawned:
            end = await _wait(spawned.process)
            for _ in range(2):
                await bench.restart()
                process = (await bench.spawner.recover())[spawned.job]
                assert end == await _wait(process)
                assert spawned.process.pid == process.pid
                assert spawned.process.started_at == process.started_at

    async def check_an_end_without_a_server_is_recorded(self) -> None:
        """Output and end are recorded also while no server is running."""
        async with self._make() as bench, _spawned(bench, JobSpec("echo", ["out"])) as spawned:
            await bench.restart()
            end = await _wait((await bench.spawner.recover())[spawned.job])
            assert Exited(0) == end.ending
            assert {Channel.OUTPUT: 4} == dict(end.output)
            assert b"out\n" == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_forget_is_idempotent(self) -> None:
        """After ``forget`` a job is unknown; a second call is no error, and the output is kept."""
        async with self._make() as bench, _spawned(bench, JobSpec("echo", ["out"])) as spawned:
            await _wait(spawned.process)
            for _ in range(2):
                await bench.spawner.forget(spawned.job)
                assert spawned.job not in await bench.spawner.recover()
            await bench.spawner.forget(new_job_id())
            await bench.restart()
            assert spawned.job not in await bench.spawner.recover()
            assert b"out\n" == await _output(bench, spawned.job, Channel.OUTPUT)

    async def check_output_may_be_removed_before_the_job_is_forgotten(self) -> None:
        """A job can be forgotten after the store has deleted its output; no spawner knows it then."""
        async with self._make() as bench, _spawned(bench, JobSpec("echo", ["out"])) as spawned:
            await _wait(spawned.process)
            await bench.outputs.remove(spawned.job)
            await bench.spawner.forget(spawned.job)
            assert spawned.job not in await bench.spawner.recover()
            await bench.restart()
            assert spawned.job not in await bench.spawner.recover()

    async def check_close_can_be_repeated(self) -> None:
        """A second ``close`` is no error."""
        async with self._make() as bench:
            await bench.spawner.recover()
            await bench.spawner.close()
            await bench.spawner.close()


@asynccontextmanager
async def _spawned(bench: SpawnerBench, spec: JobSpec) -> AsyncIterator[_Spawned]:
    """Start a job; kill it and remove everything at the end."""
    job = new_job_id()
    sinks = await bench.outputs.create(job, spec.channels)
    process = await bench.spawner.spawn(job, spec, Placement(), sinks)
    try:
        yield _Spawned(job, process)
    finally:
        remaining = (await bench.spawner.recover()).get(job)
        if remaining is not None:
            await remaining.stop(signal.SIGKILL, 0.0)
            await remaining.wait()
        await bench.spawner.forget(job)
        await bench.outputs.remove(job)


async def _wait(process: Process) -> End:
    return await asyncio.wait_for(process.wait(), TIMEOUT)


async def _output(bench: SpawnerBench, job: JobId, channel: Channel) -> bytes:
    size = (await bench.outputs.extent(job, channel)).end
    output = b""
    while len(output) < size:
        output += await bench.outputs.read(job, channel, len(output), size - len(output))
    return output
