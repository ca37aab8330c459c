"""The socket of the supervisor: requests of the connected servers, and events of jobs sent to them."""

import os
import socket
import time
from collections.abc import Sequence

from ...core.lifecycle import StopRequested, Whom
from ...core.model.ending import Cause, End, Lost
from ...core.model.terminal import WindowSize
from ...core.steps import Step, reached
from ..ipc.connection import MessageConnection
from ..ipc.encoding import (
    end_to_message,
    placement_to_message,
    plan_from_message,
    progress_to_message,
)
from ..ipc.event_loop import Loop, boottime
from ..ipc.framing import OLDEST_PROTOCOL, PROTOCOL, Message
from ..logs.handler import configure
from ..logs.lines import FORMATS, LEVELS
from ..recorder.client import RecorderClient
from ..zygote.client import Zygote
from .inspection import Inspection
from .job import Job
from .job_start import MainProcess
from .job_table import JobTable
from .takeover import Takeover

_END_FOLLOWS = 0.02
"""Seconds after the end of the last process in which most ends follow: their progress is not sent."""


class RequestServer:
    """Serves the requests of servers, and notifies them of the events of jobs."""

    def __init__(
        self,
        loop: Loop,
        table: JobTable,
        takeover: Takeover,
        inspection: Inspection,
        recorder: RecorderClient,
        zygote: Zygote,
    ) -> None:
        self._loop = loop
        self._table = table
        self._takeover = takeover
        self._inspection = inspection
        self._recorder = recorder
        self._zygote = zygote
        self._connections: set[MessageConnection] = set()
        self._pending_spawns: dict[str, tuple[MessageConnection, int]] = {}
        self._ending: dict[str, Job] = {}
        table.observer = self

    @property
    def connected(self) -> bool:
        """Whether a server is connected."""
        return bool(self._connections)

    def accept(self, listener: socket.socket) -> None:
        """Accept the connection of a server."""
        peer, _ = listener.accept()
        connection = MessageConnection(self._loop, peer, self.serve, self._connections.discard)
        if connection.open:
            self._connections.add(connection)

    def adopt(self) -> None:
        """Take over the jobs of dead supervisors, then start zygote and recorder."""
        self._takeover.run()
        self._zygote.begin()  # first: it holds the files by the time that a recorder moves anything
        self._recorder.begin()
        self._takeover.stop_zygotes()
        self._takeover.close_pidfds()

    # --- requests

    def serve(self, connection: MessageConnection, message: Message) -> None:
        """Serve one request."""
        match message:
            case {"call": int(call), "do": "hello"}:
                connection.send({"call": call, "protocol": PROTOCOL, "oldest": OLDEST_PROTOCOL})
            case {"call": int(call), "do": "log", "level": str(level), "format": str(form)}:
                if level in LEVELS and form in FORMATS:  # a newer server may know others
                    configure("supervisor", level, form)
                    self._recorder.set_log(level, form)
                connection.send({"call": call})
            case {"call": int(call), "do": "bound_output", "most": (int() | None) as most}:
                self._recorder.bound_output(most)
                connection.send({"call": call})
            case {"call": int(call), "do": "adopt"}:
                self.adopt()
                connection.send({"call": call})
            case {"call": int(call), "do": "list"}:
                self._list(connection, call)
            case {"call": int(call), "jobs": list(names)}:
                self._serve_jobs(connection, call, [str(name) for name in names], message)
            case {"call": int(call), "job": str(name)}:
                self._serve_job(connection, call, name, message)
            case {"call": int(call)}:
                self._refuse(connection, call)

    def _serve_jobs(
        self, connection: MessageConnection, call: int, names: Sequence[str], message: Message
    ) -> None:
        match message:
            case {"do": "hold"}:
                self._takeover.hold_pidfds(names, connection.take_descriptors())
                connection.send({"call": call})
            case {"do": "forget"}:
                for name in names:
                    self._table.forget(name)
                connection.send({"call": call})
            case _:
                self._refuse(connection, call)

    def _serve_job(self, connection: MessageConnection, call: int, name: str, message: Message) -> None:
        match message:
            case {"do": "spawn", "plan": dict(plan)}:
                self._spawn(connection, call, name, plan)
            case {"do": "stop", "signal": int(number), "grace": float(grace)}:
                if name in self._table.running:
                    signal_all = bool(message.get("signal_all"))  # earlier servers do not send it
                    self._table.running[name].stop(StopRequested(number, grace, signal_all))
                connection.send({"call": call})
            case {"do": "input"}:
                connection.send({"call": call, **self._input(name, message.get("end"))})
            case {"do": "signal" | "pause" | "resume" | "resize"}:
                connection.send({"call": call, **self._control(name, message)})
            case {"do": "survivors"}:
                job = self._table.running.get(name)
                survivors = job.survivors() if job is not None else []
                connection.send({"call": call, "survivors": [list(each) for each in survivors]})
            case {"do": "inspect"}:
                connection.send({"call": call, **self._inspection.describe(name)})
            case {"do": "forget"}:  # protocol 2
                self._table.forget(name)
                connection.send({"call": call})
            case _:
                self._refuse(connection, call)

    def _input(self, name: str, end: object) -> Message:
        """Pass on input of a job, which ends after ``end`` bytes if it is given; return the answer."""
        job = self._table.running.get(name)
        if job is None:
            return {}
        job.feed(end if isinstance(end, int) else None)
        return _input_of(job)

    def _control(self, name: str, message: Message) -> Message:
        """Signal, pause, resume or resize a job; return the answer."""
        job = self._table.running.get(name)
        if job is None:
            if message["do"] == "resize":  # no terminal is left; the client gets the end of the job
                return {}
            return {"refused": "the process is already finished"}
        try:
            match message:
                case {"do": "signal", "signal": int(number), "whom": str(whom)}:
                    job.signal(number, Whom(whom))
                case {"do": "pause"}:
                    return {"frozen": job.pause()}
                case {"do": "resume"}:
                    job.resume()
                case {"do": "resize", "rows": int(rows), "columns": int(columns)}:
                    job.resize(WindowSize(rows, columns))
        except OSError as error:
            return {"refused": error.strerror}
        return {}

    def _refuse(self, connection: MessageConnection, call: int) -> None:
        connection.send({"call": call, "error": "unknown request", "protocol": PROTOCOL})

    def _spawn(self, connection: MessageConnection, call: int, name: str, message: Message) -> None:
        """Start a job; ``started`` or ``failed`` answers the request."""
        if refusal := self._table.refusal(name):
            stage, number = refusal
            connection.send({"call": call, "failed": stage, "errno": number})
            return
        plan = plan_from_message(message, self._table.directory(name))
        self._recorder.begin()  # a server of protocol 1 does not request an adoption
        self._pending_spawns[name] = connection, call
        self._table.spawn(name, plan)

    def _list(self, connection: MessageConnection, call: int) -> None:
        """Send all known jobs, after serving every request that has arrived so far."""
        for other in list(self._connections):
            if other is not connection:
                other.read()
        jobs: list[Message] = []
        for name, job in self._table.running.items():
            place = placement_to_message(job.plan.placement)
            known = {"placement": place, "fifos": list(job.plan.fifos)}
            jobs.append({"job": name, **known, **_identity(job.main), **_state_of(job)})
        for name, (main, placement, end, _) in self._table.ended_jobs.items():
            known = {"placement": placement_to_message(placement), "end": end_to_message(end)}
            jobs.append({"job": name, "pid": main.pid, "started_at": main.started_at, **known})
        connection.send({"call": call, "protocol": PROTOCOL, "jobs": jobs})

    # --- events

    def started(self, job: Job) -> None:
        """Answer the server that requested the job, and notify the others."""
        connection, call = self._pending_spawns.pop(job.name)
        connection.send({"call": call, **_identity(job.main)})
        reached(Step.REPORTED, job.name)
        self._broadcast({"event": "progress", "job": job.name, **_state_of(job)}, exclude=connection)

    def failed(self, job: Job, stage: str, number: int) -> None:
        """Answer the server that requested the job, and notify the others."""
        connection, call = self._pending_spawns.pop(job.name)
        self._inspection.drop(job.name)  # no server asks to forget a job that never ran
        connection.send({"call": call, "failed": stage, "errno": number})
        # A server that connected meanwhile has listed the job as starting.
        lost = Lost(f"it could not be started: {stage}: {os.strerror(number)}")
        end = End(lost, Cause.NONE, 0, {}, time.time())
        self._broadcast({"event": "end", "job": job.name, "end": end_to_message(end)}, exclude=connection)

    def progressed(self, job: Job) -> None:
        """Notify every server of the job's state, a moment later if the end is about to follow."""
        if job.life.draining:
            if not self._ending:
                self._loop.call_at(self._report_ending, boottime() + _END_FOLLOWS)
            self._ending[job.name] = job
        else:
            self._report(job)

    def _report_ending(self) -> None:
        """Notify every server of jobs whose output was not drained at once."""
        jobs, self._ending = self._ending, {}
        for job in jobs.values():
            self._report(job)

    def _report(self, job: Job) -> None:
        self._broadcast({"event": "progress", "job": job.name, **_state_of(job)})

    def ended(self, job: Job) -> None:
        """Notify every server of the job's end."""
        assert job.end is not None
        self._ending.pop(job.name, None)
        self._broadcast({"event": "end", "job": job.name, "end": end_to_message(job.end)})
        reached(Step.ANNOUNCED, job.name)

    def _broadcast(self, message: Message, *, exclude: MessageConnection | None = None) -> None:
        for connection in list(self._connections):
            if connection is not exclude:
                connection.send(message)


def _state_of(job: Job) -> Message:
    """Return the progress of a job, and of its input if it has one."""
    return {**progress_to_message(job.progress), **_input_of(job)}


def _input_of(job: Job) -> Message:
    """Return how far the input of a job is; nothing if it has none."""
    stdin = job.streams.input
    if not stdin.wanted:
        return {}
    state = {"position": stdin.position, "end": stdin.end_at, "closed": stdin.closed, "lost": stdin.lost}
    return {"input": {**state, "typed": job.streams.terminal.wanted}}


def _identity(main: MainProcess) -> Message:
    """Return what identifies a main process: pids are reused, a pid with its start time is not."""
    return {"pid": main.pid, "start": main.start, "started_at": main.started_at}
