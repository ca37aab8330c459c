"""The jobs that a supervisor knows: those that run, and those that have ended and are not forgotten."""

import errno
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Self

from ...core.model.ending import Channel, End
from ...core.ports import Placement
from ...core.steps import Step, reached
from ..ipc.encoding import SpawnPlan
from ..kernel.rlimits import most_jobs
from ..state.history import remove_history
from ..state.job_directory import fifos_in, history_path, input_files, remove_if_empty
from ..state.layout import Layout
from .job import Job, Observer, Services
from .job_start import MainProcess
from .job_terminal import NoTerminal
from .wait_status import ending_of_child

log = logging.getLogger(__name__)


class EndedJob(NamedTuple):
    """A job that has ended and is not forgotten. ``main.pid`` 0: its history is unreadable."""

    main: MainProcess
    placement: Placement
    end: End
    files: tuple[str, ...]
    """Those of its streams that exist until the job is forgotten."""

    @classmethod
    def of(cls, main: MainProcess, plan: SpawnPlan, end: End, directory: str) -> Self:
        """Return a job that has ended like this."""
        stdin = input_files(directory) if plan.spec.stdin else ()
        return cls(main, plan.placement, end, (*plan.fifos, *stdin))


class JobTable:
    """The jobs by name. ``observer`` receives their events; set it before the first job."""

    observer: Observer

    def __init__(self, layout: Layout, services: Services) -> None:
        self.running: dict[str, Job] = {}
        self.ended_jobs: dict[str, EndedJob] = {}
        self._layout = layout
        self._services = services
        self._by_pid: dict[int, Job] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.running or name in self.ended_jobs

    def directory(self, name: str) -> str:
        """Return the directory of a job."""
        return self._layout.job(name)

    def make(self, name: str, plan: SpawnPlan, timeout: float | None) -> Job:
        """Return a job that is not in the table yet; ``timeout`` seconds are left to it."""
        return Job(name, self.directory(name), plan, timeout, self._services, self)

    def refusal(self, name: str) -> tuple[str, int] | None:
        """Return stage and errno if no job can be started with this name now, None if one can."""
        if name in self or os.path.exists(history_path(self._layout.job(name))):
            return "job", errno.EEXIST
        if len(self.running) >= most_jobs():
            return "descriptors", errno.EMFILE
        return None

    def spawn(self, name: str, plan: SpawnPlan) -> None:
        """Start a job; the observer receives the outcome."""
        job = self.make(name, plan, plan.spec.timeout)
        try:
            job.spawn()
        except OSError as error:
            stage = "terminal" if isinstance(error, NoTerminal) else "clone"
            self.failed(job, stage, error.errno or errno.EIO)
            return
        except Exception:
            log.exception("job %s: cannot be started", name)
            self.failed(job, "clone", errno.EIO)  # the server waits for the outcome
            return
        self.running[name] = job
        self._by_pid[job.main.pid] = job

    def reap(self) -> None:
        """Handle every child that has ended, then reap it.

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
            self._services.zygote.reaped(info.si_pid)
            reached(Step.REAPED, name)

    def forget(self, name: str) -> None:
        """Delete the files of the streams and the history of a job that has ended, not of one that runs."""
        if name in self.running:  # its output needs the FIFOs
            return
        ended = self.ended_jobs.pop(name, None)
        files = ended.files if ended is not None else all_stream_files(self.directory(name))
        keep_history = ended is not None and ended.main.pid == 0
        delete = partial(self._delete_files, name, files, keep_history=keep_history)
        try:
            delete()
        except OSError:  # a read-only file system; the server waits for the reply
            self._services.writes.write(name, delete)

    def _delete_files(self, name: str, files: Sequence[str], *, keep_history: bool) -> None:
        directory = self._layout.job(name)
        # The history last: while it exists, the job is known.
        for file in files:
            with suppress(FileNotFoundError):
                os.unlink(file)
        history = history_path(directory)
        if keep_history:  # it is unreadable: keep it for inspection
            with suppress(OSError):
                os.rename(history, f"{history}.unreadable")
        remove_history(history)
        remove_if_empty(directory)
        reached(Step.FORGOTTEN, name)

    # --- events of jobs

    def drained(self, name: str, output: Mapping[Channel, int], missing: Mapping[Channel, int]) -> None:
        """Handle that all output of a job is recorded, but for what is missing at its end."""
        if name in self.running:
            self.running[name].drained(output, missing)

    def output_troubled(self, name: str, reason: str) -> None:
        """Handle that the output of a job cannot be recorded, or can be again."""
        if name in self.running:
            self.running[name].output_troubled(reason)

    def fed(self, name: str, *, closed: bool, done: bool) -> None:
        """Handle that input of a job was moved into its FIFO."""
        if name in self.running:
            job = self.running[name]
            job.streams.input.fed(closed=closed, done=done)
            self.observer.progressed(job)

    def started(self, job: Job) -> None:
        """Notify the observer."""
        self.observer.started(job)

    def failed(self, job: Job, stage: str, number: int) -> None:
        """Drop a job that never ran, and notify the observer."""
        self.running.pop(job.name, None)
        self.observer.failed(job, stage, number)

    def progressed(self, job: Job) -> None:
        """Notify the observer, unless it is notified of the end anyway."""
        if job.end is None:
            self.observer.progressed(job)

    def ended(self, job: Job) -> None:
        """Keep the end of a job, whose record is written, and notify the observer."""
        assert job.end is not None
        self.running.pop(job.name, None)
        self.ended_jobs[job.name] = EndedJob.of(job.main, job.plan, job.end, self.directory(job.name))
        self.observer.ended(job)


def all_stream_files(directory: str) -> tuple[str, ...]:
    """Return the files that the streams of a job may have, of which nothing is known."""
    return (*fifos_in(directory), *input_files(directory))
