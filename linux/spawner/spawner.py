"""The ProcessSpawner that works through supervisors."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from ...core.errors import (
    InvalidJobSpec,
    LimitsRejected,
    QuotaExceeded,
    SpawnerUnavailable,
    SpawnFailed,
)
from ...core.model.ending import Channel
from ...core.model.job import DEFAULT_PATH, JobId, JobSpec, job_ids_among
from ...core.ports import (
    Placement,
    PlacementKind,
    Process,
    Sink,
    SinkKind,
)
from ..ipc.encoding import SpawnPlan, plan_to_message
from ..ipc.framing import Message
from ..logs.handler import current
from ..state.code_digest import this_generation
from ..state.generations import known_generations, remove_if_dead
from ..state.history import read_history, remove_provisional_history
from ..state.job_directory import fifos_in, history_path, remove_if_empty
from ..state.layout import Layout
from .process import SupervisedProcess
from .supervisor_client import SupervisorClient, SupervisorGone, start_supervisor
from .users import Account, account

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_PAUSE = 0.02
"""Seconds between attempts: a supervisor that was just leaving is gone by then."""

_LONG_PAUSE = 1.0
"""Seconds until more attempts, where somebody depends on it."""


class SupervisorSpawner:
    """Spawns through the supervisor of its generation, and stays connected to older ones with jobs."""

    def __init__(self, state_dir: Path, *, generation: str | None = None) -> None:
        self._layout = Layout(state_dir.absolute())
        self._layout.make()
        self._generation = generation or this_generation()
        self._processes: dict[JobId, SupervisedProcess] = {}
        self._clients: dict[str, SupervisorClient] = {}
        self._complete = False  # everything that supervisors know has been told to us
        self._connecting = asyncio.Lock()
        self._reconnection: asyncio.Task[None] | None = None

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        return frozenset(PlacementKind)

    @property
    def accepts_sinks(self) -> frozenset[SinkKind]:
        return frozenset({SinkKind.RECORDED_FIFO, SinkKind.APPENDED_FILE})

    async def parent(self) -> int:
        for _ in range(_ATTEMPTS):
            await self._connected()
            if client := self._clients.get(self._generation):
                return client.supervisor
        raise SpawnerUnavailable("the supervisor dies again and again; see its log")

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        # NSS may ask the network, but not for the user that we are.
        who = account(None) if spec.user is None else await asyncio.to_thread(account, spec.user)
        plan = _plan(job, spec, placement, sinks, who)
        # Known before it is asked for: its end may be told together with its start.
        process = self._processes[job] = SupervisedProcess(self, job, self._generation)
        process.placement = placement
        try:
            process.hold_fifos(plan.fifos)
            await self._spawn(job, spec, plan, process)
        except BaseException:
            del self._processes[job]
            process.release()
            raise
        return process

    async def recover(self) -> Mapping[JobId, Process]:
        await self._connected()
        self._remove_unstarted()
        return dict(self._processes)

    async def forget(self, job: JobId) -> None:
        await self.call(job, "forget")
        process = self._processes.pop(job, None)
        if process is not None and process.generation != self._generation:
            await self._retire(process.generation)

    async def close(self) -> None:
        if self._reconnection:
            self._reconnection.cancel()
        await self._disconnect()
        for process in self._processes.values():
            process.release()

    async def call(self, job: JobId, do: str, **arguments: object) -> dict[str, Any]:
        """Ask for what may be asked twice; SpawnerUnavailable if there is no supervisor to be had."""
        for _ in range(_ATTEMPTS):
            await self._connected()
            process = self._processes.get(job)
            client = self._clients.get(process.generation if process else self._generation)
            if client is not None:
                with suppress(SupervisorGone):
                    return await client.call(do, job=str(job), **arguments)
        raise SpawnerUnavailable("the supervisor dies again and again; see its log")

    # --- connections

    async def _connected(self) -> None:
        """Be connected to every supervisor, with everything told that they know."""
        async with self._connecting:
            for _ in range(_ATTEMPTS):
                if self._complete:
                    return
                self._complete = True  # unless a connection is lost meanwhile
                try:
                    await self._connect()
                except SupervisorGone:
                    self._complete = False
                    await asyncio.sleep(_PAUSE)
                except BaseException:
                    self._complete = False
                    raise
            raise SpawnerUnavailable(
                f"the supervisor ends as soon as it is started; see {self._layout.supervisor}/log"
            )

    async def _connect(self) -> None:
        for generation in known_generations(self._layout):
            await self._open(generation)
        if self._generation not in self._clients:
            await asyncio.to_thread(start_supervisor, self._layout, self._generation)
            await self._open(self._generation)
        await self._hand_over()
        known = [
            process for process in self._processes.values() if process.pid
        ]  # others are being asked for
        told: set[JobId] = set()
        for generation, client in list(self._clients.items()):
            answer = await client.call("list")
            told |= self._take_list(generation, answer["jobs"])
            await self._retire(generation)
        for process in known:
            if process.job not in told and not process.over:
                process.lose("the supervisor ended and nothing was recorded about the job", time.time())
        for generation in set(known_generations(self._layout)) - {self._generation, *self._clients}:
            remove_if_dead(self._layout, generation)

    async def _open(self, generation: str) -> None:
        if generation in self._clients:
            return
        directory = self._layout.generation(generation)
        client = SupervisorClient(directory, self._take, partial(self._lost, generation))
        try:
            if await client.connect():
                level, form = current()
                # A supervisor of an older version answers "unknown request"; its log stays as it is.
                await client.call("log", level=level, format=form)
                self._clients[generation] = client
        except BaseException:
            await client.close()
            raise

    async def _hand_over(self) -> None:
        """Have the jobs of dead supervisors taken over by that of our generation."""
        pidfds = {
            str(job): process.pidfd for job, process in self._processes.items() if process.pidfd is not None
        }
        # On a connection of its own: descriptors go with the first byte of a message, past any writer.
        client = SupervisorClient(self._layout.generation(self._generation), _ignore, _ignore)
        try:
            if not await client.connect():
                raise SupervisorGone
            await client.hand_over(pidfds)
        finally:
            await client.close()

    def _take_list(self, generation: str, jobs: Sequence[Mapping[str, Any]]) -> set[JobId]:
        told = set()
        for each in jobs:
            job = JobId(UUID(each["job"]))
            told.add(job)
            process = self._processes.get(job)
            if process is None:
                process = self._processes[job] = SupervisedProcess(self, job, generation)
                # A supervisor of an earlier version names none: they are where its store made them.
                process.hold_fifos(each.get("fifos", fifos_in(self._layout.job(job))))
            process.generation = generation
            process.apply(each)
            if "placement" not in each:  # it speaks protocol 1
                history = read_history(history_path(self._layout.job(job)))
                process.placement = history.start.plan.placement if history else Placement()
        return told

    async def _retire(self, generation: str) -> None:
        """Let go of an older supervisor that has no job left; it leaves then."""
        if generation == self._generation:
            return
        if all(process.generation != generation for process in self._processes.values()):
            client = self._clients.pop(generation, None)
            if client is not None:
                await client.close()

    async def _disconnect(self) -> None:
        while self._clients:
            _, client = self._clients.popitem()
            await client.close()

    def _take(self, message: Message) -> None:
        job = JobId(UUID(str(message["job"])))
        process = self._processes.get(job)
        if process is not None:
            process.apply(message)

    def _lost(self, generation: str) -> None:
        log.error("the supervisor of generation %s has gone; its jobs are taken over", generation)
        self._clients.pop(generation, None)
        self._complete = False
        for job, process in self._processes.items():
            process.hold_unreported(self._layout.job(job))
        if self._reconnection is None or self._reconnection.done():
            self._reconnection = asyncio.create_task(self._reconnected())

    async def _reconnected(self) -> None:
        """Be connected, however long it takes: there are jobs that somebody has to see out."""
        while True:
            try:
                return await self._connected()
            except (SpawnerUnavailable, OSError) as error:
                log.error("no supervisor can be had, trying again: %s", error)  # noqa: TRY400 - a line each second
                await asyncio.sleep(_LONG_PAUSE)

    def _remove_unstarted(self) -> None:
        """Remove what a supervisor left that died during a start; output belongs to its store."""
        for job in job_ids_among(os.listdir(self._layout.jobs)):
            if job not in self._processes:
                directory = self._layout.job(job)
                remove_provisional_history(history_path(directory))
                remove_if_empty(directory)

    async def _spawn(self, job: JobId, spec: JobSpec, plan: SpawnPlan, process: SupervisedProcess) -> None:
        await self._connected()
        client = self._clients.get(self._generation)
        answer: Mapping[str, Any] | None = None
        with suppress(SupervisorGone):
            if client is not None:
                message = plan_to_message(plan, self._layout.job(job))
                answer = await client.call("spawn", job=str(job), plan=message)
        if answer is None:
            await self._reconnected()  # tells whether it was started all the same
            if not process.pid:
                raise SpawnerUnavailable("the supervisor died; the job was not started")
            return
        if "failed" in answer:
            raise _failure(spec, answer["failed"], answer["errno"])
        process.apply(answer)


def _ignore(*_: object) -> None:
    """Hear nothing: another connection tells."""


def _plan(
    job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink], who: Account
) -> SpawnPlan:
    environment = {
        "PATH": DEFAULT_PATH,
        "HOME": who.home,
        "USER": who.name,
        "LOGNAME": who.name,
        "LANG": "C.UTF-8",
        **spec.env,
        "WORKER_JOB_ID": str(job),  # last: without cgroups it is how the job's processes are found
    }
    return SpawnPlan(replace(spec, env=environment), who.uid, who.gid, who.groups, placement, sinks)


def _failure(spec: JobSpec, stage: str, number: int) -> Exception:
    """Return the error that tells the user what could not be done for the job."""
    reason = os.strerror(number)
    match stage:
        case "exec":
            return SpawnFailed(number, f"{spec.command}: {reason}")
        case "descriptors":
            return QuotaExceeded(
                "the supervisor could not see another job out with the files that it may have open; "
                "raise that limit (LimitNOFILE= or ulimit -n) where the server is started"
            )
        case "working directory":
            return InvalidJobSpec(stage, f"{spec.working_directory}: {reason}")
        case "clone" if number == errno.ECONNRESET:
            return SpawnerUnavailable("the zygote dies again and again; the job was not started")
        case "cgroup" if number not in {errno.EAGAIN, errno.ENOMEM}:
            return LimitsRejected(f"the job cannot join its control group: {reason}")
        case _:
            return SpawnFailed(number, f"{stage}: {reason}")
