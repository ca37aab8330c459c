"""A Worker in any order of events: starts, stops, ends, restarts and removals keep every promise."""

import asyncio
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from worker.core.ending import Cause, Channel, End, Exited, Signaled
from worker.core.errors import (
    JobAlreadyFinished,
    JobNotFound,
    JobStillRunning,
    RequestIdReused,
    SpawnFailed,
)
from worker.core.job import JobId, JobSpec, JobState, Leftovers
from worker.core.testing import FakeMachine, FakeProgram

T = TypeVar("T")

PROGRAMS = {
    "short": FakeProgram(b"short\n"),
    "long": FakeProgram(b"long\n" * 100, seconds=20.0, exit_code=3),
    "silent": FakeProgram(seconds=5.0),
    "stubborn": FakeProgram(b"stubborn", seconds=30.0, ignores_sigterm=True),
    "forker": FakeProgram(b"forker", seconds=2.0, exit_code=255, child_seconds=10.0),
}
SPECS = [
    *(JobSpec(command) for command in PROGRAMS),
    JobSpec("long", timeout=3.0, grace=1.0),
    JobSpec("stubborn", timeout=3.0, grace=1.0),
    JobSpec("forker", leftovers=Leftovers.WAIT),
]
LATER = list(JobState)
"""States in the order of a life: no job ever goes back."""


@dataclass
class Known:
    """What has been seen of a job."""

    spec: JobSpec
    state: JobState = JobState.STARTING
    stopped: bool = False
    killed: bool = False
    end: End | None = None


class WorkerMachine(RuleBasedStateMachine):
    """One machine on which servers come and go, and all that clients have been told."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.machine = FakeMachine({name: lambda _, it=it: it for name, it in PROGRAMS.items()})
        self.worker = self.machine.worker()
        self.known: dict[JobId, Known] = {}
        self.specs: dict[JobId, JobSpec] = {}
        self.requests: dict[str, JobId] = {}
        self.removed: set[JobId] = set()

    def run(self, what: Coroutine[None, None, T]) -> T:
        """Run one step, and everything that follows from it without time passing."""

        async def step() -> T:
            try:
                return await what
            finally:
                await self.machine.clock.advance(0)

        return self.runner.run(step())

    # --- what clients do

    @rule(target=jobs, spec=st.sampled_from(SPECS), request=st.sampled_from(["", "", "r1", "r2"]))
    def start(self, spec: JobSpec, request: str) -> JobId:
        """A request gives one job, also when that is removed; with another command it is refused."""
        earlier = self.requests.get(request) if request else None
        if earlier is not None and self.specs[earlier] != spec:
            with pytest.raises(RequestIdReused):
                self.run(self.worker.start(spec, request_id=request))
            return earlier
        job = self.run(self.worker.start(spec, request_id=request))
        if earlier is not None:
            assert earlier == job
        else:
            assert job not in self.known
            assert job not in self.removed
            self.known[job] = Known(spec)
            self.specs[job] = spec
            if request:
                self.requests[request] = job
        return job

    @rule(request=st.sampled_from(["", "r3"]))
    def fail_to_start(self, request: str) -> None:
        """A command that cannot be run leaves nothing; the invariants see to that."""
        with pytest.raises(SpawnFailed):
            self.run(self.worker.start(JobSpec("no-such-command"), request_id=request))

    @rule(job=jobs, grace=st.sampled_from([None, 0.0, 2.0]), number=st.sampled_from([15, 2, 9]))
    def stop(self, job: JobId, grace: float | None, number: int) -> None:
        """It returns when the job is over, and is refused if it was."""
        if job in self.removed:
            with pytest.raises(JobNotFound):
                self.run(self.worker.stop(job))
        elif self.known[job].state.over:
            with pytest.raises(JobAlreadyFinished):
                self.run(self.worker.stop(job))
        else:
            self.known[job].stopped = True
            self.run(self._stop(job, grace, number))
            assert self.run(self.worker.query(job)).state.over

    async def _stop(self, job: JobId, grace: float | None, number: int) -> None:
        stop = asyncio.create_task(self.worker.stop(job, signal=number, grace=grace))
        for _ in range(12):
            await self.machine.clock.advance(0 if stop.done() else 1.0)
        await stop

    @rule(job=jobs)
    def remove(self, job: JobId) -> None:
        """A job that is over is gone for good; one that is not stays."""
        if job in self.removed:
            with pytest.raises(JobNotFound):
                self.run(self.worker.remove(job))
        elif not self.known[job].state.over:
            with pytest.raises(JobStillRunning):
                self.run(self.worker.remove(job))
        else:
            self.run(self.worker.remove(job))
            del self.known[job]
            self.removed.add(job)

    # --- what happens to them

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        """Programs end, time-outs come."""
        self.run(self.machine.clock.advance(seconds))

    @rule(job=jobs)
    def kill(self, job: JobId) -> None:
        """Somebody else's kill -9."""
        if job in self.known and not self.known[job].state.over:
            self.known[job].killed = True
            self.run(self._kill(job))

    async def _kill(self, job: JobId) -> None:
        self.machine.spawner.kill(job)

    @rule(target=jobs, spec=st.sampled_from(SPECS), turns=st.integers(1, 6))
    def restart(self, spec: JobSpec, turns: int) -> object:
        """The server goes and another comes, while a client's start is under way."""
        return self.run(self._restart(spec, turns))

    async def _restart(self, spec: JobSpec, turns: int) -> object:
        start = asyncio.create_task(self.worker.start(spec))
        for _ in range(turns):
            await asyncio.sleep(0)
        await self.worker.close()
        self.worker = self.machine.worker()
        [answer] = await asyncio.gather(start, return_exceptions=True)
        if not isinstance(answer, UUID):
            return multiple()
        self.known[JobId(answer)] = Known(spec)
        return answer

    # --- what holds at any time

    @invariant()
    def every_job_is_known_and_no_other(self) -> None:
        """Worker, journal and output have the same jobs; scopes and processes those that run."""
        statuses = self.run(self.worker.list())
        jobs = [status.record.id for status in statuses]
        assert list(self.known) == jobs
        assert jobs == [record.id for record in self.run(self.machine.journal.load())]
        assert set(jobs) == self.machine.outputs._sinks.keys()
        running = {status.record.id for status in statuses if not status.state.over}
        assert running == self.machine.limiter.scopes.keys()
        assert running == self.run(self.machine.spawner.recover()).keys()

    @invariant()
    def a_life_goes_only_forward(self) -> None:
        """States follow each other, and an end that was told once is told for ever."""
        for status in self.run(self.worker.list()):
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
            written = self.run(self._read(job, follow=known.state.over))
            assert PROGRAMS[known.spec.command].output == written
            if known.end is not None:
                assert {Channel.OUTPUT: len(written)} == known.end.output

    async def _read(self, job: JobId, *, follow: bool) -> bytes:
        return b"".join([chunk.data async for chunk in self.worker.stream(job, follow=follow)])

    def teardown(self) -> None:
        """Whatever has happened, all jobs can be stopped and removed, and then nothing is left."""
        with self.runner:
            for job, known in self.known.items():
                if not known.state.over:
                    self.run(self.worker.stop(job, grace=0.0))
                self.run(self.worker.remove(job))
            self.known.clear()
            self.every_job_is_known_and_no_other()


WorkerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAnyOrder = WorkerMachine.TestCase
