"""The supervisor of one generation: its parts, and how long it runs."""

from collections.abc import Mapping

from ...core.model.channel import Channel
from ..ipc.event_loop import Loop, boottime
from ..recorder.client import RecorderClient
from ..state.layout import Layout
from ..state.reserve import Reserve
from ..zygote.client import Zygote
from .inspection import Inspection
from .job import Services
from .job_table import JobTable
from .requests import RequestServer
from .retried_writes import RetriedWrites
from .takeover import Takeover

IDLE_TIMEOUT = 2.0
"""Seconds without jobs and servers after which the supervisor exits."""


class Supervisor:
    """The parts of a supervisor, and the decision when it exits."""

    def __init__(self, layout: Layout, generation: str, loop: Loop) -> None:
        self._loop = loop
        self._idle_since = boottime()
        self._exit_requested = False
        self._writes = RetriedWrites(Reserve(str(layout.state_dir)))
        self._zygote = Zygote(layout.generation(generation) / "zygote.lock")
        lock = layout.generation(generation) / "recorder.lock"
        self._recorder = RecorderClient(loop, lock, self._drained, self._output_troubled, self._fed)
        services = Services(generation, loop, self._zygote, self._recorder, self._writes)
        self.table = JobTable(layout, services)
        self._takeover = Takeover(layout, generation, self.table)
        self.requests = RequestServer(
            loop,
            self.table,
            self._takeover,
            Inspection(self.table, self._writes),
            self._recorder,
            self._zygote,
        )

    def _drained(self, job: str, output: Mapping[Channel, int], missing: Mapping[Channel, int]) -> None:
        self.table.drained(job, output, missing)

    def _output_troubled(self, job: str, reason: str) -> None:
        self.table.output_troubled(job, reason)

    def _fed(self, job: str, closed: bool, done: bool) -> None:  # noqa: FBT001 - a callback
        self.table.fed(job, closed=closed, done=done)

    def exit_without_jobs(self) -> None:
        """Exit as soon as no job is left, even with servers: systemd stops our scope and waits for us."""
        self._exit_requested = True

    def do_due_work(self) -> float | None:
        """Do what is due; return when more will be due. Ends the loop when there is no reason to run."""
        now = boottime()
        self._writes.retry(now)
        if self._recorder.start_at is not None and self._recorder.start_at <= now:
            self._recorder.start()
        deadlines = [at for at in (self._recorder.start_at, self._writes.retry_at) if at is not None]
        if self.table.running or self._writes.retry_at is not None:
            self._idle_since = now
        elif self._exit_requested:
            self._exit()
        elif self.requests.connected:
            self._idle_since = now
        else:
            deadlines.append(self._idle_since + IDLE_TIMEOUT)
            if now >= self._idle_since + IDLE_TIMEOUT and not self._takeover.done:
                self.requests.adopt()  # the server that started us has died before it requested this
                return now
            if now >= self._idle_since + IDLE_TIMEOUT:
                self._exit()
        return min(deadlines, default=None)

    def _exit(self) -> None:
        self._recorder.close()
        self._zygote.close()
        self._loop.stop()
