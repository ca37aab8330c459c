"""The ProcessSpawner that works through the supervisor."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from ..core.ending import Cause, Channel, End, Lost
from ..core.errors import InvalidJobSpec, LimitsRejected, SpawnerUnavailable, SpawnFailed
from ..core.job import DEFAULT_PATH, JobId, JobSpec, JobState
from ..core.ports import Placement, PlacementKind, Process, Progress, Sink, SinkKind, Survivor
from .layout import Layout, fifo_path
from .messages import PROTOCOL, Message
from .outputs import FifoSink
from .supervisor_client import SupervisorClient, SupervisorGone
from .users import Account, account
from .values import SpawnPlan, end_from_message, ending_from_message, plan_to_message

log = logging.getLogger(__name__)

_ATTEMPTS = 3


class SupervisedProcess:
    """A job as the supervisor tells of it."""

    def __init__(self, spawner: "SupervisorSpawner", job: JobId) -> None:
        self.pid = 0
        self.started_at = 0.0
        self.progress = Progress(JobState.RUNNING)
        self._spawner = spawner
        self._job = job
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._fifos: list[int] = []

    async def stop(self, signal: int, grace: float) -> None:
        await self._spawner.call("stop", job=str(self._job), signal=int(signal), grace=float(grace))

    async def survivors(self) -> Sequence[Survivor]:
        answer = await self._spawner.call("survivors", job=str(self._job))
        return [Survivor(pid, state) for pid, state in answer["survivors"]]

    async def wait(self) -> End:
        return await asyncio.shield(self._end)

    @property
    def over(self) -> bool:
        """Whether the end is known."""
        return self._end.done()

    def hold(self, directory: Path) -> None:
        """Hold the FIFOs open, so that what is in them survives supervisor and recorder."""
        for channel in Channel:
            try:
                path = fifo_path(directory, channel)
                self._fifos.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            except FileNotFoundError:
                continue

    def take(self, message: Mapping[str, Any]) -> None:
        """Take in what the supervisor tells."""
        if "pid" in message:
            self.pid, self.started_at = message["pid"], message["started_at"]
        if "end" in message:
            self.finish(end_from_message(message["end"]))
        elif "state" in message:
            ending = ending_from_message(message["ending"])
            self.progress = Progress(JobState(message["state"]), ending, Cause(message["cause"]))

    def finish(self, end: End) -> None:
        """Tell everybody who waits."""
        if not self._end.done():
            self.progress = Progress.at_end(end)
            self._end.set_result(end)
        self.release()

    def release(self) -> None:
        """Let go of the FIFOs."""
        for fd in self._fifos:
            os.close(fd)
        self._fifos.clear()


class SupervisorSpawner:
    """Spawns through the supervisor of a state directory, and stays connected to it."""

    def __init__(self, state_dir: Path) -> None:
        self._layout = Layout(state_dir)
        self._layout.make()
        self._processes: dict[JobId, SupervisedProcess] = {}
        self._client: SupervisorClient | None = None
        self._connecting = asyncio.Lock()
        self._reconnection: asyncio.Task[None] | None = None

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        return frozenset(PlacementKind)

    @property
    def accepts_sinks(self) -> frozenset[SinkKind]:
        return frozenset({SinkKind.FIFO})

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        # NSS may ask the network, but not for the user that we are.
        who = account(None) if spec.user is None else await asyncio.to_thread(account, spec.user)
        plan = _plan(job, spec, placement, sinks, who)
        # Known before it is asked for: its end may be told together with its start.
        process = self._processes[job] = SupervisedProcess(self, job)
        try:
            process.hold(self._layout.job(job))
            await self._spawn(job, spec, plan, process)
        except BaseException:
            del self._processes[job]
            process.release()
            raise
        return process

    async def recover(self) -> Mapping[JobId, Process]:
        await self._connected()
        return dict(self._processes)

    async def forget(self, job: JobId) -> None:
        self._processes.pop(job, None)
        await self.call("forget", job=str(job))

    async def close(self) -> None:
        if self._reconnection:
            self._reconnection.cancel()
        if self._client:
            await self._client.close()
            self._client = None
        for process in self._processes.values():
            process.release()

    async def call(self, do: str, **arguments: object) -> dict[str, Any]:
        """Ask for what may be asked twice; SpawnerUnavailable if there is no supervisor to be had."""
        for _ in range(_ATTEMPTS):
            client = await self._connected()
            with suppress(SupervisorGone):
                return await client.call(do, **arguments)
        raise SpawnerUnavailable("the supervisor dies again and again; see its log")

    async def _connected(self) -> SupervisorClient:
        """Return a connection over which everything that the supervisor knows has been told."""
        async with self._connecting:
            for _ in range(_ATTEMPTS):
                if self._client is not None:
                    return self._client
                with suppress(SupervisorGone):  # it was just leaving
                    self._client = await self._connect()
            raise SpawnerUnavailable("the supervisor dies again and again; see its log")

    async def _connect(self) -> SupervisorClient:
        client = SupervisorClient(self._layout, self._take, self._lost)
        try:
            await client.connect()
            answer = await client.call("list")
            _check_protocol(answer)
        except BaseException:
            await client.close()
            raise
        self._take_list(answer["jobs"])
        return client

    def _take_list(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        for each in jobs:
            job = JobId(UUID(each["job"]))
            if job not in self._processes:
                self._processes[job] = SupervisedProcess(self, job)
                self._processes[job].hold(self._layout.job(job))
            self._processes[job].take(each)
        told = {JobId(UUID(each["job"])) for each in jobs}
        for job in self._processes.keys() - told:
            self._finish_lost(self._processes[job])

    def _finish_lost(self, process: SupervisedProcess) -> None:
        if process.pid and not process.over:  # without a pid it is just being asked for
            ending = Lost("the supervisor ended and nothing was recorded about the job")
            process.finish(End(ending, Cause.NONE, 0, {}, time.time()))

    def _take(self, message: Message) -> None:
        job = JobId(UUID(str(message["job"])))
        process = self._processes.get(job)
        if process is not None:
            process.take(message)

    def _lost(self) -> None:
        log.error("the supervisor has gone; starting another")
        self._client = None
        self._reconnection = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        try:
            await self._connected()
        except SpawnerUnavailable:
            log.exception("no supervisor can be had; the next call tries again")

    async def _spawn(self, job: JobId, spec: JobSpec, plan: SpawnPlan, process: SupervisedProcess) -> None:
        client = await self._connected()
        try:
            answer = await client.call("spawn", job=str(job), plan=plan_to_message(plan))
        except SupervisorGone:
            await self._connected()  # tells whether it was started all the same
            if process.pid and not isinstance(process.progress.ending, Lost):
                return
            if process.pid:
                await process.wait()
                await self.call("forget", job=str(job))
            raise SpawnerUnavailable("the supervisor died; the job was not started") from None
        if "failed" in answer:
            raise _failure(spec, answer["failed"], answer["errno"])
        process.take(answer)


def _check_protocol(answer: Mapping[str, Any]) -> None:
    if answer.get("protocol") != PROTOCOL:
        raise SpawnerUnavailable(f"the supervisor speaks protocol {answer.get('protocol')}, not {PROTOCOL}")


def _plan(
    job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink], who: Account
) -> SpawnPlan:
    sizes = {sink.segment_size for sink in sinks.values() if isinstance(sink, FifoSink)}
    environment = {
        "PATH": DEFAULT_PATH,
        "HOME": who.home,
        "USER": who.name,
        "LOGNAME": who.name,
        "LANG": "C.UTF-8",
        **spec.env,
        "WORKER_JOB_ID": str(job),  # last: without cgroups it is how the job's processes are found
    }
    return SpawnPlan(
        argv=(spec.command, *spec.args),
        env=environment,
        working_directory=spec.working_directory,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        placement=placement,
        channels=tuple(sinks),
        segment_size=sizes.pop(),
        timeout=spec.timeout,
        grace=spec.grace,
        leftovers=spec.leftovers,
    )


def _failure(spec: JobSpec, stage: str, number: int) -> Exception:
    """Return the error that tells the user what could not be done for the job."""
    reason = os.strerror(number)
    match stage:
        case "exec":
            return SpawnFailed(number, f"{spec.command}: {reason}")
        case "working directory":
            return InvalidJobSpec(stage, f"{spec.working_directory}: {reason}")
        case "cgroup" if number not in {errno.EAGAIN, errno.ENOMEM}:
            return LimitsRejected(f"the job cannot join its control group: {reason}")
        case _:
            return SpawnFailed(number, f"{stage}: {reason}")
