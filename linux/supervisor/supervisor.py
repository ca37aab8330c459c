"""What the supervisor does for servers: spawn, stop, list, forget; and tell what becomes of jobs."""

import errno
import logging
import os
import resource
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from ...core.model.ending import (
    Cause,
    Channel,
    End,
    Lost,
)
from ...core.ports import Placement
from ...core.steps import Step, reached
from ..ipc.connection import MessageConnection
from ..ipc.encoding import (
    SpawnPlan,
    end_to_message,
    ending_to_message,
    placement_to_message,
    plan_from_message,
)
from ..ipc.event_loop import Loop, boottime
from ..ipc.framing import OLDEST_PROTOCOL, PROTOCOL, Message
from ..recorder.client import RecorderClient
from ..state.history import History, HistoryUnreadable, remove_history
from ..state.job_directory import fifo_path, history_path
from ..state.layout import Layout
from .birth import Zygote
from .job import Job
from .job_processes import MarkedProcesses
from .orphan import ending_of_child
from .retried_writes import RetriedWrites
from .takeover import orphaned_jobs

log = logging.getLogger(__name__)

IDLE = 2.0
"""Seconds without job and server after which the supervisor leaves."""

_OWN_DESCRIPTORS = 40
"""Room for servers, helpers, logs, and what is open for a moment: a birth, a look at a group."""

_DESCRIPTORS_OF_A_JOB = 3
"""At most: two FIFOs, and the events of its group while it ends."""


class Ended(NamedTuple):
    """A job that is over and not forgotten; ``pid`` 0: nobody knows which process it was."""

    pid: int
    started_at: float
    placement: Placement
    end: End


class Supervisor:
    """The jobs of one generation, and the servers that are connected."""

    def __init__(self, layout: Layout, generation: str, loop: Loop) -> None:
        self._layout = layout
        self._generation = generation
        self._loop = loop
        self._jobs: dict[str, Job] = {}
        self._by_pid: dict[int, Job] = {}
        self._ended: dict[str, Ended] = {}
        self._connections: set[MessageConnection] = set()
        self._asked: dict[str, tuple[MessageConnection, int]] = {}
        self._idle_since = boottime()
        self._writes = RetriedWrites()
        self._zygote = Zygote()
        lock = layout.generation(generation) / "recorder.lock"
        self._recorder = RecorderClient(loop, lock, self._drained, self._recording_troubled)
        self._held: dict[str, int] = {}
        self._has_adopted = False
        self._asked_to_leave = False

    def _adopt(self) -> None:
        """Take over what supervisors that are dead have left."""
        self._has_adopted = True
        with orphaned_jobs(self._layout, self._generation, {*self._jobs, *self._ended}) as orphans:
            adopted = []
            for name, history in orphans.jobs:
                if isinstance(history, HistoryUnreadable):
                    self._give_up(name, history)
                elif history.stillborn:
                    self._forget(name)
                elif history.end is not None:
                    self._end(name, history, history.end)
                elif self._hold_output(name, history):
                    adopted.append((name, history))
            orphans.retire_recorders()
            for name, history in adopted:
                self._adopt_job(name, history)
        self._recorder.begin()
        self._zygote.begin()
        for pidfd in self._held.values():
            os.close(pidfd)
        self._held.clear()

    def _hold_output(self, name: str, history: History) -> bool:
        """Hold the output of a job that is to be taken over; if that cannot be, the job is ended."""
        plan, deadline = history.start.plan, history.start.deadline
        if deadline is not None:
            plan = replace(plan, timeout=max(0.0, deadline - boottime()))
        job = self._jobs[name] = self._job(name, plan)
        try:
            job.open_fifos()
        except OSError as error:
            self._abandon(name, history, error)
            return False
        return True

    def _adopt_job(self, name: str, history: History) -> None:
        """Take over a job whose output is held; what is wrong with one is no other's trouble."""
        # A pidfd is of no use once the ending is written down; those that are left over are closed.
        pidfd = self._held.pop(name, None) if history.main is None else None
        try:
            self._jobs[name].adopt(history, pidfd)
        except OSError as error:
            self._abandon(name, history, error)
        else:
            reached(Step.ADOPTED, name)

    def _abandon(self, name: str, history: History, why: OSError) -> None:
        log.error("job %s: it cannot be taken over, and what is left of it is ended: %s", name, why)
        try:
            self._jobs.pop(name).abandon(history)
        except OSError:  # its groups are not to be had
            MarkedProcesses(name).kill()
        self._end(name, history, _not_taken_over(why))

    def _end(self, name: str, history: History, end: End) -> None:
        start = history.start
        self._ended[name] = Ended(start.pid, start.started_at, start.plan.placement, end)

    def _give_up(self, name: str, why: HistoryUnreadable) -> None:
        """End what is left of a job that cannot be taken over."""
        log.error("job %s: it cannot be taken over, and what is left of it is ended: %s", name, why)
        MarkedProcesses(name).kill()
        self._ended[name] = Ended(0, 0.0, Placement(), _not_taken_over(why))

    def _job(self, name: str, plan: SpawnPlan) -> Job:
        directory = self._layout.job(name)
        return Job(
            name,
            directory,
            self._generation,
            plan,
            self._loop,
            self._zygote,
            self._recorder,
            self._writes,
            self,
        )

    def accept(self, listener: socket.socket) -> None:
        """Take in a server."""
        peer, _ = listener.accept()
        connection = MessageConnection(self._loop, peer, self._serve, self._disconnected)
        if connection.open:
            self._connections.add(connection)

    def reap(self) -> None:
        """Take note of every child that has ended, then let it go.

        The main process of a job stays a zombie until its ending is on disk.
        """
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            job = self._by_pid.pop(info.si_pid, None)
            name = job.name if job is not None else ""
            if job is not None:
                reached(Step.MAIN_EXIT_SEEN, job.name)
                job.main_ended(ending_of_child(info))
            os.waitpid(info.si_pid, 0)
            reached(Step.REAPED, name)

    def leave(self) -> None:
        """Leave as soon as no job is left, servers or not: whoever ends our scope waits for us."""
        self._asked_to_leave = True

    def turn(self) -> float | None:
        """Do what is due; return when more will be. Ends the loop when there is nobody to serve."""
        now = boottime()
        self._writes.retry(now)
        if self._recorder.start_at is not None and self._recorder.start_at <= now:
            self._recorder.start()
        deadlines = [at for at in (self._recorder.start_at, self._writes.retry_at) if at is not None]
        if self._jobs or self._writes.retry_at is not None:
            self._idle_since = now
        elif self._asked_to_leave:
            self._go()
        elif self._connections:
            self._idle_since = now
        else:
            deadlines.append(self._idle_since + IDLE)
            if now >= self._idle_since + IDLE and not self._has_adopted:
                self._adopt()  # the server that was about to ask for it has died
                return now
            if now >= self._idle_since + IDLE:
                self._go()
        return min(deadlines, default=None)

    def _go(self) -> None:
        self._recorder.close()
        self._zygote.close()
        self._loop.stop()

    # --- requests

    def _serve(self, connection: MessageConnection, message: Message) -> None:
        match message:
            case {"call": int(call), "do": "hello"}:
                connection.send({"call": call, "protocol": PROTOCOL, "oldest": OLDEST_PROTOCOL})
            case {"call": int(call), "do": "hold", "jobs": list(names)}:
                self._hold_pidfds([str(name) for name in names], connection.take_descriptors())
                connection.send({"call": call})
            case {"call": int(call), "do": "adopt"}:
                self._adopt()
                connection.send({"call": call})
            case {"call": int(call), "do": "list"}:
                self._list(connection, call)
            case {"call": int(call), "job": str(name)}:
                self._serve_job(connection, call, name, message)
            case {"call": int(call)}:
                self._refuse(connection, call)

    def _serve_job(self, connection: MessageConnection, call: int, name: str, message: Message) -> None:
        match message:
            case {"do": "spawn", "plan": dict(plan)}:
                self._spawn(connection, call, name, plan)
            case {"do": "stop", "signal": int(number), "grace": float(grace)}:
                if name in self._jobs:
                    self._jobs[name].stop(number, grace)
                connection.send({"call": call})
            case {"do": "survivors"}:
                left = self._jobs[name].survivors() if name in self._jobs else []
                connection.send({"call": call, "survivors": [list(each) for each in left]})
            case {"do": "forget"}:
                self._forget(name)
                connection.send({"call": call})
            case _:
                self._refuse(connection, call)

    def _refuse(self, connection: MessageConnection, call: int) -> None:
        connection.send({"call": call, "error": "unknown request", "protocol": PROTOCOL})

    def _hold_pidfds(self, names: list[str], pidfds: list[int]) -> None:
        """Keep pidfds of main processes for the adoption."""
        if len(names) != len(pidfds):  # the kernel leaves out those that we have no room for
            for pidfd in pidfds:
                os.close(pidfd)
            return
        for name, pidfd in zip(names, pidfds, strict=True):
            if name in self._held:
                os.close(self._held[name])
            self._held[name] = pidfd

    def _spawn(self, connection: MessageConnection, call: int, name: str, plan: Message) -> None:
        directory = self._layout.job(name)
        if name in self._jobs or name in self._ended or os.path.exists(history_path(directory)):
            connection.send({"call": call, "failed": "job", "errno": errno.EEXIST})
            return
        if len(self._jobs) >= _most_jobs():
            connection.send({"call": call, "failed": "descriptors", "errno": errno.EMFILE})
            return
        job = self._job(name, plan_from_message(plan))
        self._recorder.begin()  # a server of protocol 1 does not ask for adoption
        self._asked[name] = connection, call
        try:
            job.spawn()
        except OSError as error:
            self.failed(job, "clone", error.errno or errno.EIO)
            return
        self._jobs[name] = job
        self._by_pid[job.pid] = job

    def _list(self, connection: MessageConnection, call: int) -> None:
        """Tell all that is known, after everything that any server has asked for so far."""
        for other in list(self._connections):
            if other is not connection:
                other.read()
        jobs: list[Message] = []
        for name, job in self._jobs.items():
            place = placement_to_message(job.plan.placement)
            jobs.append({"job": name, "placement": place, **_identity(job), **_progress(job)})
        for name, (pid, started_at, placement, end) in self._ended.items():
            told = {"placement": placement_to_message(placement), "end": end_to_message(end)}
            jobs.append({"job": name, "pid": pid, "started_at": started_at, **told})
        connection.send({"call": call, "protocol": PROTOCOL, "jobs": jobs})

    def _forget(self, name: str) -> None:
        if name in self._jobs:  # what it writes has to go somewhere
            return
        ended = self._ended.pop(name, None)
        directory = self._layout.job(name)
        # The history last: as long as there is one, the job is known.
        for channel in Channel:
            with suppress(FileNotFoundError):
                os.unlink(fifo_path(directory, channel))
        history = history_path(directory)
        if ended is not None and ended.pid == 0:  # somebody may want to look at it
            with suppress(OSError):
                os.rename(history, f"{history}.unreadable")
        remove_history(history)
        reached(Step.FORGOTTEN, name)

    def _disconnected(self, connection: MessageConnection) -> None:
        self._connections.discard(connection)

    # --- what becomes of jobs

    def started(self, job: Job) -> None:
        """Answer the server that asked for it."""
        connection, call = self._asked.pop(job.name)
        connection.send({"call": call, **_identity(job)})
        reached(Step.REPORTED, job.name)
        self._tell({"event": "progress", "job": job.name, **_progress(job)}, but=connection)

    def failed(self, job: Job, stage: str, number: int) -> None:
        """Answer the server that asked for it, and keep nothing."""
        self._jobs.pop(job.name, None)
        connection, call = self._asked.pop(job.name)
        connection.send({"call": call, "failed": stage, "errno": number})
        # A server that came in between has listed the job as starting.
        lost = Lost(f"it could not be started: {stage}: {os.strerror(number)}")
        end = End(lost, Cause.NONE, 0, {}, time.time())
        self._tell({"event": "end", "job": job.name, "end": end_to_message(end)}, but=connection)

    def progressed(self, job: Job) -> None:
        """Tell every server, unless the end is told anyway."""
        if job.end is None:
            self._tell({"event": "progress", "job": job.name, **_progress(job)})

    def ended(self, job: Job) -> None:
        """Tell every server; the record is written."""
        assert job.end is not None
        self._jobs.pop(job.name, None)
        self._ended[job.name] = Ended(job.pid, job.started_at, job.plan.placement, job.end)
        self._tell({"event": "end", "job": job.name, "end": end_to_message(job.end)})
        reached(Step.ANNOUNCED, job.name)

    def _drained(self, name: str, output: Mapping[Channel, int]) -> None:
        if name in self._jobs:
            self._jobs[name].drained(output)

    def _recording_troubled(self, name: str, reason: str) -> None:
        if name in self._jobs:
            self._jobs[name].recording_troubled(reason)

    def _tell(self, message: Message, *, but: MessageConnection | None = None) -> None:
        for connection in list(self._connections):
            if connection is not but:
                connection.send(message)


def _most_jobs() -> int:
    """Return how many jobs can be seen out with the descriptors that there are."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, limit - _OWN_DESCRIPTORS) // _DESCRIPTORS_OF_A_JOB


def _not_taken_over(why: Exception) -> End:
    return End(Lost(f"no supervisor could take it over: {why}"), Cause.NONE, 0, {}, time.time())


def _identity(job: Job) -> Message:
    """Return what a main process is known by: with its start, in clock ticks, also when pids repeat."""
    return {"pid": job.pid, "start": job.start, "started_at": job.started_at}


def _progress(job: Job) -> Message:
    return {
        "state": job.life.state,
        "ending": ending_to_message(job.life.ending),
        "cause": job.life.cause,
        "output_trouble": job.output_trouble,
    }
