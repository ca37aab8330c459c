"""The guarantees of a Worker hold for any order of events, including kills and failing ports.

Workers are closed and restarted, or killed as by kill -9 at any turn of the event loop; programs end,
time passes, jobs are started, stopped, updated, read and removed, by clients and by retention. The
FakeMachine, with journal, processes, output and scopes, outlives the Workers.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, multiple, rule

from worker.core import (
    ActionRefused,
    JobAlreadyFinished,
    JobId,
    JobNotFound,
    JobSpec,
    JobStillRunning,
    JournalUnusable,
    Leftovers,
    RequestIdReused,
    ResourceLimits,
    SpawnFailed,
    WorkerError,
)

from ..support.examples import examples
from ..support.worker_state_machine import PROGRAMS, WorkerStateMachine

SPECS = [
    *(JobSpec(command) for command in PROGRAMS),
    JobSpec("long", timeout=3.0, grace=1.0),
    JobSpec("stubborn", timeout=3.0, grace=1.0),
    JobSpec("forker", leftovers=Leftovers.WAIT),
]

FAILURES = {
    "journal": JournalUnusable("disk full"),
    "outputs": OSError(28, "No space left on device"),
    "limiter": OSError(16, "Device or resource busy"),
    "spawner": WorkerError("no reply"),
}


class AnyOrder(WorkerStateMachine):
    """Calls of clients, and events on the machine, in any order."""

    jobs = Bundle("jobs")

    # --- calls of clients

    @rule(target=jobs, spec=st.sampled_from(SPECS), request=st.sampled_from(["", "", "r1", "r2"]))
    def start(self, spec: JobSpec, request: str) -> JobId:
        """A request id returns one job, also after its removal; with another command it is rejected."""
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
            self.expect(job, spec, request)
        return job

    @rule(request=st.sampled_from(["", "r3"]))
    def fail_to_start(self, request: str) -> None:
        """A command that cannot be executed leaves nothing, as the invariants check."""
        with pytest.raises(SpawnFailed):
            self.run(self.worker.start(JobSpec("no-such-command"), request_id=request))

    @rule(job=jobs, grace=st.sampled_from([None, 0.0, 2.0]), number=st.sampled_from([15, 2, 9]))
    def stop(self, job: JobId, grace: float | None, number: int) -> None:
        """Stop returns when the job has finished, and is rejected for a finished job."""
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

    @rule(job=jobs, number=st.sampled_from([1, 15, 9, 18]), all_processes=st.booleans())
    def signal(self, job: JobId, number: int, *, all_processes: bool) -> None:
        """A signal has no effect but that of the signal."""
        if job in self.known and not self.known[job].state.over:
            self.known[job].killed = True
            with suppress(JobAlreadyFinished):  # only its child is left
                self.run(self.worker.signal(job, number, all_processes=all_processes))

    @rule(job=jobs)
    def pause(self, job: JobId) -> None:
        """A job can be paused until it is being ended."""
        if job in self.known and not self.known[job].state.over:
            with suppress(ActionRefused):
                self.run(self.worker.pause(job))
                assert self.run(self.worker.query(job)).paused

    @rule(job=jobs)
    def resume(self, job: JobId) -> None:
        """A job can be resumed until its end."""
        if job in self.known and not self.known[job].state.over:
            self.run(self.worker.resume(job))
            assert not self.run(self.worker.query(job)).paused

    @rule(job=jobs)
    def remove(self, job: JobId) -> None:
        """A finished job is removed for good; any other job is not removed."""
        if job in self.removed:
            with pytest.raises(JobNotFound):
                self.run(self.worker.remove(job))
        elif not self.known[job].state.over:
            with pytest.raises(JobStillRunning):
                self.run(self.worker.remove(job))
        else:
            self.run(self._remove(job))

    # --- events on the machine

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 30.0, 100.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        """Programs end and timeouts expire."""
        self.run(self._pass(seconds))

    async def _pass(self, seconds: float) -> None:
        while seconds > 0:  # in steps: no clock jumps this far
            step = min(seconds, 60.0)
            await self.machine.clock.advance(step)
            await self.note()
            seconds -= step

    @rule(job=jobs)
    def kill(self, job: JobId) -> None:
        """A kill -9 that the Worker did not send."""
        if job in self.known and not self.known[job].state.over:
            self.known[job].killed = True
            self.run(self._kill(job))

    async def _kill(self, job: JobId) -> None:
        self.machine.spawner.kill(job)

    @rule(target=jobs, spec=st.sampled_from(SPECS), turns=st.integers(1, 20))
    def restart(self, spec: JobSpec, turns: int) -> object:
        """The Worker is closed and replaced while it starts a job."""
        return self.run(self._restart(spec, turns))

    async def _restart(self, spec: JobSpec, turns: int) -> object:
        await self._disconnect()
        start = asyncio.create_task(self.worker.start(spec))
        for _ in range(turns):
            await asyncio.sleep(0)
        await self.worker.close()
        self.serve()
        [result] = await asyncio.gather(start, return_exceptions=True)
        if not isinstance(result, UUID):
            return multiple()
        self.expect(JobId(result), spec, "")
        return result

    @rule(
        target=jobs,
        data=st.data(),
        turns=st.integers(0, 40),
        failing=st.none() | st.tuples(st.sampled_from(sorted(FAILURES)), st.integers(0, 3)),
    )
    def crash(self, data: st.DataObject, turns: int, failing: tuple[str, int] | None) -> object:
        """Kill -9 of the Worker during a call, optionally with a failing port; another one recovers."""
        spec, request = data.draw(st.sampled_from(SPECS)), data.draw(st.sampled_from(["", "r1", "r4"]))
        job = data.draw(st.sampled_from([*self.known])) if self.known else None
        method = data.draw(st.sampled_from(["start", "stop", "remove", "update", "wait"]))
        if failing is not None:
            port, calls = failing
            self.worker.failures[port] = calls, FAILURES[port]
        if method == "start" or job is None:
            return self.run(self._crash_in_start(spec, request, turns))
        return self.run(self._crash_in_call(method, job, turns, failing[0] if failing else ""))

    async def _crash_in_start(self, spec: JobSpec, request: str, turns: int) -> object:
        before = set(self.specs)
        result = await self._crash(self.worker.start(spec, request_id=request), turns)
        [*new] = [status.record for status in await self.worker.list() if status.record.id not in before]
        for record in new:
            self.expect(record.id, record.spec, record.request_id)
        if isinstance(result, UUID):
            assert JobId(result) in self.specs, "start returned an unknown job"
        return multiple(*(record.id for record in new))

    async def _crash_in_call(self, method: str, job: JobId, turns: int, failing: str) -> object:
        known = self.known[job]
        calls: dict[str, Coroutine[None, None, object]] = {
            "stop": self.worker.stop(job, grace=2.0),
            "remove": self.worker.remove(job),
            "update": self.worker.update(job, ResourceLimits(pids=7)),
            "wait": self.worker.wait(job),
        }
        call = calls.pop(method)
        for other in calls.values():
            other.close()
        known.stopped = known.stopped or (method == "stop" and not known.state.over)
        result = await self._crash(call, turns)
        listed = [status.record.id for status in await self.worker.list()]
        if method == "remove" and known.state.over and job not in listed:
            self.forget(job)
        elif method == "remove" and known.state.over:
            assert result is not None, "remove returned, but the job still exists"
            known.emptied = failing == "journal" and job not in self.machine.outputs.jobs
        return multiple()

    async def _crash(self, call: Coroutine[None, None, object], turns: int) -> object:
        """Kill the Worker during a call and start another; return the result that the call had by then."""
        await self._disconnect()
        task = asyncio.ensure_future(call)
        for _ in range(turns):
            await asyncio.sleep(0)
        done = task.done()
        await self.worker.kill()
        task.cancel()
        [result] = await asyncio.gather(task, return_exceptions=True)
        self.serve()
        await self.worker.recover()
        return result if done else JobNotFound("no result")

    @rule(job=jobs)
    def read(self, job: JobId) -> None:
        """A client begins or continues to read the output of a job: it gets each byte once."""
        if job in self.known and not self.known[job].emptied:
            self.run(self._read_on(job))

    async def _read_on(self, job: JobId) -> None:
        expected = PROGRAMS[self.known[job].spec.command].output
        if not expected:  # the generator begins at its first read
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
        """The client closes its stream."""
        if job in self.streams:
            stream, _ = self.streams.pop(job)
            self.run(stream.aclose())


AnyOrder.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30)
TestAnyOrder = AnyOrder.TestCase
