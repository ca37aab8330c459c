"""A hypothesis state machine over a Worker: the expected jobs, and invariants that hold at any time."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition

from worker.core import (
    Cause,
    Channel,
    Chunk,
    End,
    Exited,
    JobId,
    JobSpec,
    JobState,
    JobStatus,
    Placement,
    Process,
    Retention,
    Signaled,
    Sink,
    WorkerError,
)
from worker.core.engine.retention import MIN_AGE
from worker.core.testing import (
    FakeMachine,
    FakeProgram,
    FakeSpawner,
    KillableWorker,
)

T = TypeVar("T")

PROGRAMS = {
    "short": FakeProgram(b"short\n"),
    "long": FakeProgram(b"long\n" * 100, seconds=20.0, exit_code=3),
    "silent": FakeProgram(seconds=5.0),
    "stubborn": FakeProgram(b"stubborn", seconds=30.0, ignores_sigterm=True),
    "forker": FakeProgram(b"forker", seconds=2.0, exit_code=255, child_seconds=10.0),
}
STATES = list(JobState)
"""In the order of the life cycle; a job never returns to an earlier state."""

KEPT = Retention(age=500.0, jobs=4, bytes=1200)


class CountingSpawner(FakeSpawner):
    """A FakeSpawner that records every spawned job, in order."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(programs=machine.programs, clock=machine.clock)
        self.spawned: list[JobId] = []

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Spawn and record the job."""
        process = await super().spawn(job, spec, placement, sinks)
        self.spawned.append(job)
        return process


@dataclass
class Known:
    """The last observed state of a job.

    ``emptied``: the Worker was killed after it had removed the output, to free space for the journal.
    """

    spec: JobSpec
    state: JobState = JobState.STARTING
    stopped: bool = False
    killed: bool = False
    emptied: bool = False
    end: End | None = None


class WorkerStateMachine(RuleBasedStateMachine):
    """One machine on which Workers are restarted, and all results that clients have received."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.machine = FakeMachine({name: lambda _, it=it: it for name, it in PROGRAMS.items()})
        self.machine.spawner = self.spawner = CountingSpawner(self.machine)
        self.serve()
        self.known: dict[JobId, Known] = {}
        self.specs: dict[JobId, JobSpec] = {}
        self.requests: dict[str, JobId] = {}
        self.removed: set[JobId] = set()
        self.streams: dict[JobId, tuple[AsyncGenerator[Chunk, None], bytearray]] = {}

    def serve(self) -> None:
        """Start a new Worker."""
        self.worker = KillableWorker(self.machine, retention=KEPT)

    def run(self, step: Coroutine[None, None, T]) -> T:
        """Run one step, and all tasks that become ready without any time passing."""

        async def run_step() -> T:
            try:
                return await step
            finally:
                for _ in range(4):
                    await self.machine.clock.advance(0)
                await self.check_expired()

        return self.runner.run(run_step())

    async def check_expired(self) -> None:
        """Only a job that has finished, is older than MIN_AGE and is not being read may expire."""
        listed = {status.record.id for status in await self.worker.list()}
        for job in self.known.keys() - listed:
            end = self.known[job].end
            assert end is not None, "a job was removed before it finished"
            assert self.machine.clock.now() - end.ended_at >= MIN_AGE
            assert job not in self.streams
            self.forget(job)

    def forget(self, job: JobId) -> None:
        """Expect a job to be removed for good."""
        del self.known[job]
        self.removed.add(job)

    def expect(self, job: JobId, spec: JobSpec, request: str) -> None:
        """Expect a job to exist from now on."""
        assert job not in self.removed
        assert self.spawner.spawned.count(job) == 1
        self.known[job] = Known(spec)
        self.specs[job] = spec
        if request:
            assert request not in self.requests
            self.requests[request] = job

    async def note(self) -> None:
        """Compare the status of every job with its last observed state."""
        for status in await self.worker.list():
            self.check_status(status)

    async def _remove(self, job: JobId) -> None:
        await self.worker.remove(job)
        self.forget(job)
        if job in self.streams:
            stream, _ = self.streams.pop(job)
            await stream.aclose()

    async def _disconnect(self) -> None:
        """Close all streams, as when the server dies."""
        for stream, _ in self.streams.values():
            with suppress(WorkerError, asyncio.CancelledError):
                await stream.aclose()
        self.streams.clear()

    # --- invariants

    @invariant()
    def ports_and_worker_have_the_same_jobs(self) -> None:
        """Worker, journal and output store have all jobs; limiter and spawner have the running ones."""
        statuses = self.run(self.worker.list())
        jobs = [status.record.id for status in statuses]
        assert list(self.known) == jobs
        assert jobs == [record.id for record in self.run(self.machine.journal.load())]
        with_output = {job for job in jobs if not self.known[job].emptied}
        assert with_output == self.machine.outputs.jobs
        running = {status.record.id for status in statuses if not status.state.over}
        assert running == self.machine.limiter.scopes.keys()
        assert running == self.run(self.machine.spawner.recover()).keys()

    @invariant()
    def states_only_advance(self) -> None:
        """A job never returns to an earlier state, and its end never changes."""
        self.run(self.note())

    def check_status(self, status: JobStatus) -> None:
        """Compare a status with the last observed state of the job."""
        known = self.known[status.record.id]
        assert STATES.index(known.state) <= STATES.index(status.state)
        assert known.end in (None, status.record.end)
        assert status.state.over == (status.record.end is not None)
        known.state, known.end = status.state, status.record.end

    @invariant()
    def each_end_has_its_reason(self) -> None:
        """Ending and cause agree with the events that happened to the job."""
        for known in self.known.values():
            if known.end is None:
                continue
            match known.end.ending:
                case Exited(code):
                    assert PROGRAMS[known.spec.command].exit_code == code
                case Signaled(number):
                    assert known.stopped or known.killed or known.spec.timeout is not None
                    assert number in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
            match known.end.cause:
                case Cause.STOPPED:
                    assert known.stopped
                case Cause.TIMED_OUT:
                    assert known.spec.timeout is not None
                case cause:
                    assert Cause.NONE is cause

    @precondition(lambda self: self.known)
    @invariant()
    def output_is_complete(self) -> None:
        """A stream has every byte, as many as the end of the job states."""
        for job, known in self.known.items():
            if known.emptied:
                continue
            written = self.run(self._read(job, follow=known.state.over))
            assert PROGRAMS[known.spec.command].output == written
            if known.end is not None:
                assert {Channel.OUTPUT: len(written)} == known.end.output

    async def _read(self, job: JobId, *, follow: bool) -> bytes:
        return b"".join([chunk.data async for chunk in self.worker.stream(job, follow=follow)])

    def teardown(self) -> None:
        """At the end all jobs can be stopped and removed, and nothing remains."""
        with self.runner:
            self.worker.failures.clear()
            self.run(self._disconnect())
            for job, known in list(self.known.items()):
                if not known.state.over:
                    self.run(self.worker.stop(job, grace=0.0))
                self.run(self._remove(job))
            self.ports_and_worker_have_the_same_jobs()
