"""What has been seen of a Worker's jobs, and what holds of them at any time."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition

from worker.core.engine.retention import FRESH, Retention
from worker.core.errors import WorkerError
from worker.core.model.ending import (
    Cause,
    Channel,
    End,
    Exited,
    Signaled,
)
from worker.core.model.job import (
    Chunk,
    JobId,
    JobSpec,
    JobState,
    JobStatus,
)
from worker.core.ports import Placement, Process, Sink
from worker.core.testing import (
    FakeMachine,
    FakeProgram,
    FakeSpawner,
    SuddenServer,
)

T = TypeVar("T")

PROGRAMS = {
    "short": FakeProgram(b"short\n"),
    "long": FakeProgram(b"long\n" * 100, seconds=20.0, exit_code=3),
    "silent": FakeProgram(seconds=5.0),
    "stubborn": FakeProgram(b"stubborn", seconds=30.0, ignores_sigterm=True),
    "forker": FakeProgram(b"forker", seconds=2.0, exit_code=255, child_seconds=10.0),
}
LATER = list(JobState)
"""States in the order of a life: no job ever goes back."""

KEPT = Retention(age=500.0, jobs=4, bytes=1200)


class CountingSpawner(FakeSpawner):
    """Remembers every job that was ever spawned, in order."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(programs=machine.programs, clock=machine.clock)
        self.spawned: list[JobId] = []

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Spawn, and remember."""
        process = await super().spawn(job, spec, placement, sinks)
        self.spawned.append(job)
        return process


@dataclass
class Known:
    """What has been seen of a job.

    ``emptied``: its output has made room for the journal to remove it, and the server died in between.
    """

    spec: JobSpec
    state: JobState = JobState.STARTING
    stopped: bool = False
    killed: bool = False
    emptied: bool = False
    end: End | None = None


class Witness(RuleBasedStateMachine):
    """One machine on which servers come and go, and all that clients have been told."""

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
        """Have a new server."""
        self.server = SuddenServer(self.machine, retention=KEPT)
        self.worker = self.server.worker

    def run(self, what: Coroutine[None, None, T]) -> T:
        """Run one step, and everything that follows from it without time passing."""

        async def step() -> T:
            try:
                return await what
            finally:
                for _ in range(4):
                    await self.machine.clock.advance(0)
                await self.see_who_went()

        return self.runner.run(step())

    async def see_who_went(self) -> None:
        """A job may go by itself that is over, is not fresh, and that nobody reads."""
        there = {status.record.id for status in await self.worker.list()}
        for job in self.known.keys() - there:
            end = self.known[job].end
            assert end is not None, "a job was removed that was not over"
            assert self.machine.clock.now() - end.ended_at >= FRESH
            assert job not in self.streams
            self.forget(job)

    def forget(self, job: JobId) -> None:
        """Expect a job to be gone for good."""
        del self.known[job]
        self.removed.add(job)

    def learn(self, job: JobId, spec: JobSpec, request: str) -> None:
        """Expect a job to be there from now on."""
        assert job not in self.removed
        assert self.spawner.spawned.count(job) == 1
        self.known[job] = Known(spec)
        self.specs[job] = spec
        if request:
            assert request not in self.requests
            self.requests[request] = job

    async def note(self) -> None:
        """See what has become of the jobs."""
        for status in await self.worker.list():
            self.check_life(status)

    async def _remove(self, job: JobId) -> None:
        await self.worker.remove(job)
        self.forget(job)
        if job in self.streams:
            stream, _ = self.streams.pop(job)
            await stream.aclose()

    async def _disconnect(self) -> None:
        """Have all clients go, as they do when their server dies."""
        for stream, _ in self.streams.values():
            with suppress(WorkerError, asyncio.CancelledError):
                await stream.aclose()
        self.streams.clear()

    # --- what holds at any time

    @invariant()
    def every_job_is_known_and_no_other(self) -> None:
        """Worker, journal and output have the same jobs; scopes and processes those that run."""
        statuses = self.run(self.worker.list())
        jobs = [status.record.id for status in statuses]
        assert list(self.known) == jobs
        assert jobs == [record.id for record in self.run(self.machine.journal.load())]
        with_output = {job for job in jobs if not self.known[job].emptied}
        assert with_output == self.machine.outputs._sinks.keys()
        running = {status.record.id for status in statuses if not status.state.over}
        assert running == self.machine.limiter.scopes.keys()
        assert running == self.run(self.machine.spawner.recover()).keys()

    @invariant()
    def a_life_goes_only_forward(self) -> None:
        """States follow each other, and an end that was told once is told for ever."""
        self.run(self.note())

    def check_life(self, status: JobStatus) -> None:
        """Compare a job with what was seen of it."""
        known = self.known[status.record.id]
        assert LATER.index(known.state) <= LATER.index(status.state)
        assert known.end in (None, status.record.end)
        assert status.state.over == (status.record.end is not None)
        known.state, known.end = status.state, status.record.end

    @invariant()
    def an_end_is_what_happened(self) -> None:
        """Each ending and each cause has its reason."""
        for known in self.known.values():
            if known.end is None:
                continue
            match known.end.ending:
                case Exited(code):
                    assert PROGRAMS[known.spec.command].exit_code == code
                case Signaled(number):
                    assert known.stopped or known.killed or known.spec.timeout is not None
                    assert number == signal.SIGKILL or number in {15, 2}
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
        """A stream has every byte, and its size is the one that the end tells."""
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
        """Whatever has happened, all jobs can be stopped and removed, and then nothing is left."""
        with self.runner:
            self.server.refusals.clear()
            self.run(self._disconnect())
            for job, known in list(self.known.items()):
                if not known.state.over:
                    self.run(self.worker.stop(job, grace=0.0))
                self.run(self._remove(job))
            self.every_job_is_known_and_no_other()
