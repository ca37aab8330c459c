"""The ProcessSpawner: starts, stops and watches jobs through supervisors."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from ...core.errors import SpawnerUnavailable
from ...core.look_up import look_up
from ...core.model.ending import Channel
from ...core.model.job import JobId, JobSpec, job_ids_among
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
from ..recorder.output_bound import BOUND_REACHED
from ..state.code_digest import this_generation
from ..state.generations import known_generations, remove_if_dead
from ..state.history import read_history, revoke_start
from ..state.job_directory import fifos_in, history_path, remove_if_empty, remove_input
from ..state.layout import Layout
from .credentials import Credentials
from .plan import NoNewPrivs, spawn_plan
from .process import SupervisedProcess
from .start_failure import start_failure
from .supervisor_client import SupervisorClient, SupervisorGone, start_supervisor
from .users import Account, account

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_RETRY_INTERVAL = 0.02
"""Seconds between attempts: a supervisor that was about to exit has exited by then."""

_RECONNECT_INTERVAL = 1.0
"""Seconds between rounds of attempts after a supervisor has died."""

_GATHER = 0.02
"""Seconds in which the jobs of one ``forget`` request are gathered: no client waits for it."""

_LAST_FORGET = 2.0
"""Seconds that ``close`` waits for a supervisor to forget jobs: a signal may have stopped it."""

_FORGETS_SEVERAL = 3
"""The protocol from which on a supervisor forgets several jobs at once."""


class SupervisorSpawner:
    """Spawns jobs with the supervisor of its generation; stays connected to older ones that have jobs."""

    executes_exactly = True

    def __init__(
        self,
        state_dir: Path,
        *,
        generation: str | None = None,
        no_new_privs: NoNewPrivs = NoNewPrivs.AUTO,
    ) -> None:
        self._layout = Layout(state_dir.absolute())
        self._layout.make()
        self._generation = generation or this_generation()
        self._no_new_privs = no_new_privs
        self._credentials = Credentials(self._layout.state_dir)
        self._own_account = account(None)
        self._processes: dict[JobId, SupervisedProcess] = {}
        self._clients: dict[str, SupervisorClient] = {}
        self._synchronized = False  # connected to every supervisor, and all of their jobs are listed
        self._connecting = asyncio.Lock()
        self._reconnection: asyncio.Task[None] | None = None
        self._to_forget: list[JobId] = []
        self._forgetting: asyncio.Task[None] | None = None
        self._being_forgotten: set[JobId] = set()
        self._output_bound: int | None = None
        self._on_bound_reached: Callable[[], None] = _ignore

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        return frozenset(PlacementKind)

    @property
    def accepts_sinks(self) -> frozenset[SinkKind]:
        return frozenset({SinkKind.RECORDED_FIFO, SinkKind.APPENDED_FILE})

    async def parent(self) -> int:
        for _ in range(_ATTEMPTS):
            await self._ensure_connected()
            if client := self._clients.get(self._generation):
                return client.supervisor
        raise _keeps_dying()

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        plan = spawn_plan(job, spec, placement, sinks, await self._account(spec), self._no_new_privs)
        return await self._spawn_plan(job, plan)

    async def spawn_with_secrets(
        self,
        job: JobId,
        spec: JobSpec,
        placement: Placement,
        sinks: Mapping[Channel, Sink],
        secrets: Mapping[str, bytes],
    ) -> Process:
        who = await self._account(spec)
        directory = await asyncio.to_thread(self._credentials.make, job, secrets, who)
        try:
            plan = spawn_plan(job, spec, placement, sinks, who, self._no_new_privs, directory)
            return await self._spawn_plan(job, plan)
        except Exception:  # not a cancellation: the job may run, and the next server looks at that
            await asyncio.to_thread(self._credentials.remove, job)
            raise

    async def _account(self, spec: JobSpec) -> Account:
        """Return the account of a job. NSS may use the network."""
        return self._own_account if spec.user is None else await look_up(account, spec.user)

    async def _spawn_plan(self, job: JobId, plan: SpawnPlan) -> Process:
        # Registered before the request: the end may be reported together with the start.
        process = self._processes[job] = self._process(job, self._generation)
        process.placement = plan.placement
        try:
            process.hold_fifos(plan.fifos, plan.spec.pipe_size)
            await self._spawn(job, plan, process)
        except BaseException:
            del self._processes[job]
            process.close()
            raise
        return process

    def _process(self, job: JobId, generation: str) -> SupervisedProcess:
        return SupervisedProcess(self, job, generation, self._layout.job(job))

    async def recover(self) -> Mapping[JobId, Process]:
        await self._ensure_connected()
        self._remove_unstarted()
        await asyncio.to_thread(self._credentials.sweep, set(self._processes))
        return dict(self._processes)

    async def forget(self, job: JobId) -> None:
        if job not in self._to_forget:
            self._to_forget.append(job)
        if self._forgetting is None:
            self._forgetting = asyncio.create_task(self._forget_gathered())
        await asyncio.shield(self._forgetting)
        if self._credentials.exist(job):  # it has made files there, which the supervisor does not delete
            await asyncio.to_thread(self._credentials.remove, job)
        process = self._processes.pop(job, None)
        if process is not None and process.generation != self._generation:
            await self._disconnect_if_unused(process.generation)

    async def _forget_gathered(self) -> None:
        """Forget the jobs of some milliseconds with one request to each supervisor."""
        await asyncio.sleep(_GATHER)
        jobs, self._to_forget, self._forgetting = self._to_forget, [], None
        self._being_forgotten.update(jobs)
        try:
            for _ in range(_ATTEMPTS):
                await self._ensure_connected()
                with suppress(SupervisorGone):
                    return await self._forget_all(jobs)
            raise _keeps_dying()
        finally:
            self._being_forgotten.difference_update(jobs)

    async def _forget_all(self, jobs: Sequence[JobId]) -> None:
        """Forget jobs of any generation; SupervisorGone if a supervisor dies."""
        for generation, client in list(self._clients.items()):
            await _forget(client, [job for job in jobs if self._generation_of(job) == generation])

    def _generation_of(self, job: JobId) -> str:
        """Return the generation whose supervisor knows the job."""
        process = self._processes.get(job)
        return process.generation if process else self._generation

    async def bound_output(self, most: int | None, on_reached: Callable[[], None]) -> None:
        self._output_bound, self._on_bound_reached = most, on_reached
        await self._ensure_connected()
        for client in list(self._clients.values()):
            with suppress(SupervisorGone):  # the next one gets it when we connect
                await _bound_output(client, most)

    async def close(self) -> None:
        for task in (self._reconnection, self._forgetting):
            if task is not None:
                task.cancel()
        # Otherwise their FIFOs and histories would stay until the next server starts.
        with suppress(SupervisorGone, TimeoutError):
            async with asyncio.timeout(_LAST_FORGET):
                await self._forget_all([*self._to_forget, *self._being_forgotten])
        await self._disconnect()
        for process in self._processes.values():
            process.close()
        self._credentials.close()

    async def call(self, job: JobId, do: str, **arguments: object) -> dict[str, Any]:
        """Send an idempotent request; repeat it if the supervisor dies, then raise SpawnerUnavailable."""
        for _ in range(_ATTEMPTS):
            client = await self._client_of(job)
            if client is not None:
                with suppress(SupervisorGone):
                    return await client.call(do, job=str(job), **arguments)
        raise _keeps_dying()

    async def call_once(self, job: JobId, do: str, **arguments: object) -> dict[str, Any]:
        """Send a request; if the supervisor dies, raise SpawnerUnavailable: it may have been served."""
        for _ in range(_ATTEMPTS):
            client = await self._client_of(job)
            if client is not None:
                try:
                    return await client.call(do, job=str(job), **arguments)
                except SupervisorGone:
                    raise SpawnerUnavailable(
                        f"the supervisor died; it is unknown whether it has served the request: {do}"
                    ) from None
        raise _keeps_dying()

    async def _client_of(self, job: JobId) -> SupervisorClient | None:
        """Return the connection to the supervisor of a job, None if it has just died."""
        await self._ensure_connected()
        return self._clients.get(self._generation_of(job))

    # --- connections

    async def _ensure_connected(self) -> None:
        """Connect to every supervisor and list its jobs, unless that is done already."""
        async with self._connecting:
            for _ in range(_ATTEMPTS):
                if self._synchronized:
                    return
                self._synchronized = True  # _on_lost resets it if a connection is lost meanwhile
                try:
                    await self._connect()
                except SupervisorGone:
                    self._synchronized = False
                    await asyncio.sleep(_RETRY_INTERVAL)
                except BaseException:
                    self._synchronized = False
                    raise
            raise SpawnerUnavailable(
                f"the supervisor exits right after its start; see {self._layout.supervisor}/log"
            )

    async def _connect(self) -> None:
        for generation in known_generations(self._layout):
            await self._connect_to(generation)
        if self._generation not in self._clients:
            await asyncio.to_thread(start_supervisor, self._layout, self._generation)
            await self._connect_to(self._generation)
        await self._request_takeover()
        # A process without a pid is being spawned: _spawn handles the loss of its supervisor.
        known = [process for process in self._processes.values() if process.pid]
        listed: set[JobId] = set()
        for generation, client in list(self._clients.items()):
            answer = await client.call("list")
            listed |= self._apply_list(generation, answer["jobs"])
            await self._disconnect_if_unused(generation)
        if self._generation not in self._clients:  # it died before it was asked: its jobs are not listed
            raise SupervisorGone
        for process in known:
            if process.job not in listed and not process.has_ended:
                process.set_lost("the supervisor ended and nothing was recorded about the job", time.time())
        for generation in set(known_generations(self._layout)) - {self._generation, *self._clients}:
            remove_if_dead(self._layout, generation)

    async def _connect_to(self, generation: str) -> None:
        if generation in self._clients:
            return
        directory = self._layout.generation(generation)
        client = SupervisorClient(directory, self._apply_event, partial(self._on_lost, generation))
        try:
            if await client.connect():
                level, form = current()
                # A supervisor of an older version answers "unknown request"; its log stays as it is.
                await client.call("log", level=level, format=form)
                if self._output_bound is not None:
                    await _bound_output(client, self._output_bound)
                self._clients[generation] = client
        except BaseException:
            await client.close()
            raise

    async def _request_takeover(self) -> None:
        """Request that the supervisor of our generation takes over the jobs of dead ones."""
        pidfds = {
            str(job): process.pidfd for job, process in self._processes.items() if process.pidfd is not None
        }
        # On a separate connection: sendmsg(2) bypasses the transport, which may hold part of a message.
        client = SupervisorClient(self._layout.generation(self._generation), _ignore, _ignore)
        try:
            if not await client.connect():
                raise SupervisorGone
            await client.request_takeover(pidfds)
        finally:
            await client.close()

    def _apply_list(self, generation: str, jobs: Sequence[Mapping[str, Any]]) -> set[JobId]:
        """Apply the jobs that a supervisor lists, and return their ids."""
        listed = set()
        for each in jobs:
            job = JobId(UUID(each["job"]))
            listed.add(job)
            process = self._processes.get(job)
            if process is None:
                process = self._processes[job] = self._process(job, generation)
                # A supervisor of an earlier version lists no FIFOs: they are in the job's directory.
                process.hold_fifos(each.get("fifos", fifos_in(self._layout.job(job))))
            process.generation = generation
            process.apply(each)
            if "input" in each:
                process.resume_input()
            if "placement" not in each:  # protocol 1
                history = read_history(history_path(self._layout.job(job)))
                process.placement = history.start.plan.placement if history else Placement()
        return listed

    async def _disconnect_if_unused(self, generation: str) -> None:
        """Disconnect from an older supervisor that has no jobs left; it then exits."""
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

    def _apply_event(self, message: Message) -> None:
        job = JobId(UUID(str(message["job"])))
        process = self._processes.get(job)
        if process is not None:
            process.apply(message)
            if process.progress.output_trouble == BOUND_REACHED:
                self._on_bound_reached()

    def _on_lost(self, generation: str) -> None:
        log.error("the supervisor of generation %s has died; another one takes over its jobs", generation)
        self._clients.pop(generation, None)
        self._synchronized = False
        for job, process in self._processes.items():
            process.hold_unreported(self._layout.job(job))
        if self._reconnection is None or self._reconnection.done():
            self._reconnection = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        """Retry until connected: the jobs of a dead supervisor need another one."""
        while True:
            try:
                return await self._ensure_connected()
            except (SpawnerUnavailable, OSError) as error:
                log.error("no supervisor is available, retrying: %s", error)  # noqa: TRY400 - a line each second
                await asyncio.sleep(_RECONNECT_INTERVAL)

    def _remove_unstarted(self) -> None:
        """Remove what starts left whose supervisor died; the store removes their output."""
        for job in job_ids_among(os.listdir(self._layout.jobs)):
            if job not in self._processes:
                directory = self._layout.job(job)
                revoke_start(history_path(directory))
                remove_input(directory)
                remove_if_empty(directory)

    async def _spawn(self, job: JobId, plan: SpawnPlan, process: SupervisedProcess) -> None:
        await self._ensure_connected()
        client = self._clients.get(self._generation)
        answer: Mapping[str, Any] | None = None
        with suppress(SupervisorGone):
            if client is not None:
                message = plan_to_message(plan, self._layout.job(job))
                answer = await client.call("spawn", job=str(job), plan=message)
        if answer is None:
            await self._reconnect()  # the list of jobs then shows whether it was started
            if not process.pid:
                raise SpawnerUnavailable("the supervisor died; the job was not started")
            return
        if "failed" in answer:
            # It reads the file of the command, which may be on a file system that does not respond.
            raise await look_up(start_failure, plan, answer["failed"], answer["errno"])
        process.apply(answer)


async def _forget(client: SupervisorClient, jobs: Sequence[JobId]) -> None:
    """Have a supervisor forget jobs; SupervisorGone if it dies. Idempotent."""
    if not jobs:
        return
    if client.protocol >= _FORGETS_SEVERAL:
        await client.call("forget", jobs=[str(job) for job in jobs])
    else:
        for job in jobs:
            await client.call("forget", job=str(job))


async def _bound_output(client: SupervisorClient, most: int | None) -> None:
    """Bound the output of a supervisor's jobs; one of an earlier version refuses the request."""
    await client.call("bound_output", most=most)


def _keeps_dying() -> SpawnerUnavailable:
    return SpawnerUnavailable("the supervisor keeps dying; see its log")


def _ignore(*_: object) -> None:
    """Ignore an event or a loss: the other connection to this supervisor reports it."""
