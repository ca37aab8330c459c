"""A Worker in any order of events keeps every promise, also when the server dies or a port refuses.

Servers come and go by request and by kill -9 at any turn of the loop; programs end, time passes, jobs
are started, stopped, changed, read and removed, by hand and by retention. What outlives a server is
the machine: journal, processes, output and control groups, all fakes.
"""

import asyncio
from collections.abc import Coroutine
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, multiple, rule

from worker.core.errors import (
    JobAlreadyFinished,
    JobNotFound,
    JobStillRunning,
    JournalUnusable,
    RequestIdReused,
    SpawnFailed,
    WorkerError,
)
from worker.core.model.job import JobId, JobSpec, Leftovers
from worker.core.model.limits import ResourceLimits

from ..support.witness import PROGRAMS, Witness

SPECS = [
    *(JobSpec(command) for command in PROGRAMS),
    JobSpec("long", timeout=3.0, grace=1.0),
    JobSpec("stubborn", timeout=3.0, grace=1.0),
    JobSpec("forker", leftovers=Leftovers.WAIT),
]

REFUSALS = {
    "journal": JournalUnusable("disk full"),
    "outputs": OSError(28, "No space left on device"),
    "limiter": OSError(16, "Device or resource busy"),
    "spawner": WorkerError("nobody answers"),
}


class WorkerMachine(Witness):
    """What clients do, and what happens to them, in any order."""

    jobs = Bundle("jobs")

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


WorkerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAnyOrder = WorkerMachine.TestCase
