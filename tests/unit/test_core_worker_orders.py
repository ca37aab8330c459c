"""A Worker in any order of events keeps every promise, also when the server dies or a port refuses.

Servers come and go by request and by kill -9 at any turn of the loop; programs end, time passes, jobs
are started, stopped, changed, read and removed, by hand and by retention. What outlives a server is
the machine: journal, processes, output and control groups, all fakes.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import suppress
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
    JournalUnusable,
    RequestIdReused,
    SpawnFailed,
    WorkerError,
)
from worker.core.job import Chunk, JobId, JobSpec, JobState, JobStatus, Leftovers
from worker.core.limits import ResourceLimits
from worker.core.ports import Placement, Process, Sink
from worker.core.retention import FRESH, Retention
from worker.core.testing import FakeMachine, FakeProgram, FakeSpawner, SuddenServer

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

KEPT = Retention(age=500.0, jobs=4, bytes=1200)

REFUSALS = {
    "journal": JournalUnusable("disk full"),
    "outputs": OSError(28, "No space left on device"),
    "limiter": OSError(16, "Device or resource busy"),
    "spawner": WorkerError("nobody answers"),
}


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


class WorkerMachine(RuleBasedStateMachine):
    """One machine on which servers come and go, and all that clients have been told."""

    jobs = Bundle("jobs")

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

    # --- what clients do

    @rule(target=jobs, spec=st.sampled_from(SPECS), request=st.sampled_from(["", "", "r1", "r2"]))
    def start(self, spec: JobSpec, request: str) -> JobId:
        """A request gives one job, also when that is removed; with another command it is refused."""
        earlier = self.requests.get(request) if request else None
        if earlier is not None and self.specs[earlier] != spec:
            with pytest.raises(RequestIdReused):
                self.run(self.worker.start(spec, request_id=request))
            return earlier
        job = self.run(self._start(spec, request))
        if earlier is not None:
            assert earlier == job
        return job

    async def _start(self, spec: JobSpec, request: str) -> JobId:
        job = await self.worker.start(spec, request_id=request)
        if job not in self.specs:
            self.learn(job, spec, request)
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
            self.run(self._remove(job))

    async def _remove(self, job: JobId) -> None:
        await self.worker.remove(job)
        self.forget(job)
        if job in self.streams:
            stream, _ = self.streams.pop(job)
            await stream.aclose()

    # --- what happens to them

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 30.0, 100.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        """Programs end, time-outs come."""
        self.run(self._pass(seconds))

    async def _pass(self, seconds: float) -> None:
        while seconds > 0:  # not in one leap, which no clock takes
            step = min(seconds, 60.0)
            await self.machine.clock.advance(step)
            await self.note()
            seconds -= step

    async def note(self) -> None:
        """See what has become of the jobs."""
        for status in await self.worker.list():
            self.check_life(status)

    @rule(job=jobs)
    def kill(self, job: JobId) -> None:
        """Somebody else's kill -9."""
        if job in self.known and not self.known[job].state.over:
            self.known[job].killed = True
            self.run(self._kill(job))

    async def _kill(self, job: JobId) -> None:
        self.machine.spawner.kill(job)

    @rule(target=jobs, spec=st.sampled_from(SPECS), turns=st.integers(1, 20))
    def restart(self, spec: JobSpec, turns: int) -> object:
        """The server goes and another comes, while a client's start is under way."""
        return self.run(self._restart(spec, turns))

    async def _restart(self, spec: JobSpec, turns: int) -> object:
        await self._disconnect()
        start = asyncio.create_task(self.worker.start(spec))
        for _ in range(turns):
            await asyncio.sleep(0)
        await self.worker.close()
        self.serve()
        [answer] = await asyncio.gather(start, return_exceptions=True)
        if not isinstance(answer, UUID):
            return multiple()
        self.learn(JobId(answer), spec, "")
        return answer

    @rule(
        target=jobs,
        data=st.data(),
        turns=st.integers(0, 40),
        refusing=st.none() | st.tuples(st.sampled_from(sorted(REFUSALS)), st.integers(0, 3)),
    )
    def die(self, data: st.DataObject, turns: int, refusing: tuple[str, int] | None) -> object:
        """Kill -9 of the server, perhaps in trouble, while it does something; another takes over."""
        spec, request = data.draw(st.sampled_from(SPECS)), data.draw(st.sampled_from(["", "r1", "r4"]))
        job = data.draw(st.sampled_from([*self.known])) if self.known else None
        what = data.draw(st.sampled_from(["start", "stop", "remove", "update", "wait"]))
        if refusing is not None:
            port, calls = refusing
            self.server.refusals[port] = calls, REFUSALS[port]
        if what == "start" or job is None:
            return self.run(self._die_starting(spec, request, turns))
        return self.run(self._die_with(what, job, turns, refusing[0] if refusing else ""))

    async def _die_starting(self, spec: JobSpec, request: str, turns: int) -> object:
        before = set(self.specs)
        answer = await self._die(self.worker.start(spec, request_id=request), turns)
        [*new] = [status.record for status in await self.worker.list() if status.record.id not in before]
        for record in new:
            self.learn(record.id, record.spec, record.request_id)
        if isinstance(answer, UUID):
            assert JobId(answer) in self.specs, "a job was told of that nobody knows"
        return multiple(*(record.id for record in new))

    async def _die_with(self, what: str, job: JobId, turns: int, refusing: str) -> object:
        known = self.known[job]
        calls: dict[str, Coroutine[None, None, object]] = {
            "stop": self.worker.stop(job, grace=2.0),
            "remove": self.worker.remove(job),
            "update": self.worker.update(job, ResourceLimits(pids=7)),
            "wait": self.worker.wait(job),
        }
        call = calls.pop(what)
        for other in calls.values():
            other.close()
        known.stopped = known.stopped or (what == "stop" and not known.state.over)
        answer = await self._die(call, turns)
        there = [status.record.id for status in await self.worker.list()]
        if what == "remove" and known.state.over and job not in there:
            self.forget(job)
        elif what == "remove" and known.state.over:
            assert answer is not None, "it was told that a job is removed that is there"
            known.emptied = refusing == "journal" and job not in self.machine.outputs._sinks
        return multiple()

    async def _die(self, call: Coroutine[None, None, object], turns: int) -> object:
        """Return what a call has answered until the server died, or why it has not."""
        await self._disconnect()
        asked = asyncio.ensure_future(call)
        for _ in range(turns):
            await asyncio.sleep(0)
        answered = asked.done()
        await self.server.kill()
        asked.cancel()
        [answer] = await asyncio.gather(asked, return_exceptions=True)
        self.serve()
        await self.worker.recover()
        return answer if answered else JobNotFound("the answer")

    @rule(job=jobs)
    def read(self, job: JobId) -> None:
        """A client begins to read a job's output, or reads on: it gets what there is, once."""
        if job in self.known and not self.known[job].emptied:
            self.run(self._read_on(job))

    async def _read_on(self, job: JobId) -> None:
        expected = PROGRAMS[self.known[job].spec.command].output
        if not expected:  # a stream begins with the first time that it is read
            return
        if job not in self.streams:
            self.streams[job] = self.worker.stream(job), bytearray()
        stream, seen = self.streams[job]
        if len(seen) < len(expected):
            chunk = await anext(stream)
            assert len(seen) == chunk.offset
            seen += chunk.data
            assert expected.startswith(bytes(seen))

    @rule(job=jobs)
    def leave(self, job: JobId) -> None:
        """The client has enough."""
        if job in self.streams:
            stream, _ = self.streams.pop(job)
            self.run(stream.aclose())

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


WorkerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAnyOrder = WorkerMachine.TestCase
