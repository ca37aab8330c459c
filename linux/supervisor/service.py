"""What the supervisor does for servers: spawn, stop, list, forget; and tell what becomes of jobs."""

import errno
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from ...core.ending import Cause, Channel, End, Lost
from ...core.steps import Step, reached
from ..history import History, read_history
from ..layout import Layout, fifo_path, history_path
from ..messages import PROTOCOL, Message
from ..values import SpawnPlan, end_to_message, ending_to_message, plan_from_message
from .connection import Connection
from .job import Job
from .loop import Loop, boottime
from .notebook import Notebook
from .orphan import ending_of_child
from .recording import Recording

log = logging.getLogger(__name__)

IDLE = 2.0
"""Seconds without job and server after which the supervisor leaves."""


class Ended(NamedTuple):
    """A job that is over and not forgotten."""

    pid: int
    started_at: float
    end: End


class Supervisor:
    """All jobs of one state directory, and the servers that are connected."""

    def __init__(self, layout: Layout, loop: Loop) -> None:
        self._layout = layout
        self._loop = loop
        self._jobs: dict[str, Job] = {}
        self._by_pid: dict[int, Job] = {}
        self._ended: dict[str, Ended] = {}
        self._connections: set[Connection] = set()
        self._asked: dict[str, tuple[Connection, int]] = {}
        self._idle_since = boottime()
        self._notebook = Notebook()
        self._recording = Recording(loop, layout.supervisor / "recorder.lock", self._drained)

    def start(self) -> None:
        """Start the recorder, and take over what an earlier supervisor has left."""
        self._recording.start()
        for entry in os.scandir(self._layout.jobs):
            history = read_history(history_path(self._layout.job(entry.name)))
            if history is None:
                continue
            if history.end is None:
                self._adopt(entry.name, history)
            else:
                start = history.start
                self._ended[entry.name] = Ended(start.pid, start.started_at, history.end)

    def _adopt(self, name: str, history: History) -> None:
        plan, deadline = history.start.plan, history.start.deadline
        if deadline is not None:
            plan = replace(plan, timeout=max(0.0, deadline - boottime()))
        job = self._jobs[name] = self._job(name, plan)
        try:
            job.adopt(history)
            reached(Step.ADOPTED)
        except OSError as error:
            log.exception("job %s: it cannot be taken over", name)
            del self._jobs[name]
            job.abandon()
            start, lost = history.start, Lost(f"no supervisor could take it over: {error}")
            end = End(lost, Cause.NONE, 0, {}, time.time())
            self._ended[name] = Ended(start.pid, start.started_at, end)

    def _job(self, name: str, plan: SpawnPlan) -> Job:
        directory = self._layout.job(name)
        return Job(name, directory, plan, self._loop, self._recording, self._notebook, self)

    def accept(self, listener: socket.socket) -> None:
        """Take in a server."""
        peer, _ = listener.accept()
        connection = Connection(self._loop, peer, self._serve, self._disconnected)
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
            if job is not None:
                reached(Step.MAIN_EXIT_SEEN)
                job.main_ended(ending_of_child(info))
            os.waitpid(info.si_pid, 0)
            reached(Step.REAPED)

    def turn(self) -> float | None:
        """Do what is due; return when more will be. Ends the loop when there is nobody to serve."""
        now = boottime()
        for job in list(self._jobs.values()):
            if job.deadline is not None and job.deadline <= now:
                job.pass_time(now)
        deadlines = [job.deadline for job in self._jobs.values() if job.deadline is not None]
        self._notebook.retry(now)
        if self._recording.start_at is not None and self._recording.start_at <= now:
            self._recording.start()
        deadlines += [at for at in (self._recording.start_at, self._notebook.retry_at) if at is not None]
        if self._jobs or self._connections or self._notebook.retry_at is not None:
            self._idle_since = now
        else:
            deadlines.append(self._idle_since + IDLE)
            if now >= self._idle_since + IDLE:
                self._recording.close()
                self._loop.stop()
        return min(deadlines, default=None)

    # --- requests

    def _serve(self, connection: Connection, message: Message) -> None:
        match message:
            case {"call": int(call), "do": "spawn", "job": str(name), "plan": dict(plan)}:
                self._spawn(connection, call, name, plan)
            case {
                "call": int(call),
                "do": "stop",
                "job": str(name),
                "signal": int(number),
                "grace": float(grace),
            }:
                if name in self._jobs:
                    self._jobs[name].stop(number, grace)
                connection.send({"call": call})
            case {"call": int(call), "do": "survivors", "job": str(name)}:
                left = self._jobs[name].survivors() if name in self._jobs else []
                connection.send({"call": call, "survivors": [list(each) for each in left]})
            case {"call": int(call), "do": "forget", "job": str(name)}:
                self._forget(name)
                connection.send({"call": call})
            case {"call": int(call), "do": "list"}:
                self._list(connection, call)
            case {"call": int(call)}:
                connection.send({"call": call, "error": "unknown request", "protocol": PROTOCOL})

    def _spawn(self, connection: Connection, call: int, name: str, plan: Message) -> None:
        directory = self._layout.job(name)
        if name in self._jobs or name in self._ended or history_path(directory).exists():
            connection.send({"call": call, "failed": "job", "errno": errno.EEXIST})
            return
        job = self._job(name, plan_from_message(plan))
        self._asked[name] = connection, call
        try:
            job.spawn()
        except OSError as error:
            self.failed(job, "clone", error.errno or errno.EIO)
            return
        self._jobs[name] = job
        self._by_pid[job.pid] = job

    def _list(self, connection: Connection, call: int) -> None:
        """Tell all that is known, after everything that any server has asked for so far."""
        for other in list(self._connections):
            if other is not connection:
                other.read()
        jobs: list[Message] = []
        for name, job in self._jobs.items():
            jobs.append({"job": name, "pid": job.pid, "started_at": job.started_at, **_progress(job)})
        for name, (pid, started_at, end) in self._ended.items():
            jobs.append({"job": name, "pid": pid, "started_at": started_at, "end": end_to_message(end)})
        connection.send({"call": call, "protocol": PROTOCOL, "jobs": jobs})

    def _forget(self, name: str) -> None:
        if name in self._jobs:  # what it writes has to go somewhere
            return
        self._ended.pop(name, None)
        directory = self._layout.job(name)
        # The history last: as long as there is one, the job is known.
        for path in (*(fifo_path(directory, channel) for channel in Channel), history_path(directory)):
            path.unlink(missing_ok=True)
        reached(Step.FORGOTTEN)

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)

    # --- what becomes of jobs

    def started(self, job: Job) -> None:
        """Answer the server that asked for it."""
        connection, call = self._asked.pop(job.name)
        connection.send({"call": call, "pid": job.pid, "started_at": job.started_at})
        reached(Step.REPORTED)
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
        self._ended[job.name] = Ended(job.pid, job.started_at, job.end)
        self._tell({"event": "end", "job": job.name, "end": end_to_message(job.end)})
        reached(Step.ANNOUNCED)

    def _drained(self, name: str, output: Mapping[Channel, int]) -> None:
        if name in self._jobs:
            self._jobs[name].drained(output)

    def _tell(self, message: Message, *, but: Connection | None = None) -> None:
        for connection in list(self._connections):
            if connection is not but:
                connection.send(message)


def _progress(job: Job) -> Message:
    return {"state": job.life.state, "ending": ending_to_message(job.life.ending), "cause": job.life.cause}
