"""Takes over the jobs of supervisors that have died."""

import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...core.model.ending import Cause, End, Lost
from ...core.ports import Placement
from ...core.steps import Step, reached
from ..ipc.event_loop import boottime
from ..kernel.locks import stop_holder
from ..state.history import History, HistoryUnreadable
from ..state.layout import Layout
from .job_processes import MarkedProcesses
from .job_start import MainProcess
from .job_table import EndedJob, JobTable, all_stream_files
from .left_files import LeftFiles
from .orphaned_jobs import orphaned_jobs

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


class Takeover:
    """Adopts orphaned jobs into the table. ``done``: ``run`` was called at least once."""

    def __init__(self, layout: Layout, generation: str, table: JobTable) -> None:
        self.done = False
        self._layout = layout
        self._generation = generation
        self._table = table
        self._pidfds: dict[str, int] = {}
        self._zygotes: list[Path] = []

    def hold_pidfds(self, names: Sequence[str], pidfds: Sequence[int]) -> None:
        """Keep pidfds of main processes, by job, for ``run``: they give the exit codes."""
        if len(names) != len(pidfds):  # the kernel drops those that exceed our open-file limit
            for pidfd in pidfds:
                os.close(pidfd)
            return
        for name, pidfd in zip(names, pidfds, strict=True):
            if name in self._pidfds:
                os.close(self._pidfds[name])
            self._pidfds[name] = pidfd

    def run(self) -> None:
        """Take over all jobs of dead supervisors. The caller then starts zygote and recorder."""
        first, self.done = not self.done, True
        with orphaned_jobs(self._layout, self._generation, self._table, predecessor=first) as orphans:
            held = []
            for name, history in orphans.jobs:
                if isinstance(history, HistoryUnreadable):
                    self._give_up(name, history)
                elif history.never_executed:
                    self._table.forget(name)
                elif history.end is not None:
                    self._add_ended(name, history, history.end)
                elif self._hold_fifos(name, history):
                    held.append((name, history))
            left = orphans.stop_recorders(held)
            for name, history in held:
                self._adopt(name, history, left.get(name, LeftFiles()))
            self._zygotes += orphans.zygotes_of_others

    def stop_zygotes(self) -> None:
        """Stop the zygotes of dead supervisors. Before, ours must hold the files of their jobs."""
        for lock in self._zygotes:
            stop_holder(lock)
        self._zygotes.clear()

    def close_pidfds(self) -> None:
        """Close the pidfds that were not needed."""
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()

    def _hold_fifos(self, name: str, history: History) -> bool:
        """Hold the FIFOs of a job to adopt; abandon the job if that fails."""
        deadline = history.start.deadline
        timeout = None if deadline is None else max(0.0, deadline - boottime())
        job = self._table.running[name] = self._table.make(name, history.start.plan, timeout)
        try:
            job.hold_fifos()
        except OSError as error:
            self._abandon(name, history, error)
            return False
        return True

    def _adopt(self, name: str, history: History, left: LeftFiles) -> None:
        """Adopt a job whose FIFOs are held; a failure affects this job alone."""
        # Once the ending is recorded the pidfd is not needed; close_pidfds() closes it.
        pidfd = self._pidfds.pop(name, None) if history.main is None else None
        try:
            self._table.running[name].adopt(history, pidfd, left)
        except OSError as error:
            self._abandon(name, history, error)
        else:
            reached(Step.ADOPTED, name)

    def _abandon(self, name: str, history: History, reason: OSError) -> None:
        log.error("job %s: cannot be taken over, killing its processes: %s", name, reason)
        try:
            self._table.running.pop(name).abandon(history.start)
        except OSError:  # its cgroups cannot be accessed
            MarkedProcesses(name).kill()
        self._add_ended(name, history, _lost(reason))

    def _give_up(self, name: str, reason: HistoryUnreadable) -> None:
        """Kill the processes of a job whose history cannot be read."""
        log.error("job %s: cannot be taken over, killing its processes: %s", name, reason)
        MarkedProcesses(name).kill()
        files = all_stream_files(self._layout.job(name))
        self._table.ended_jobs[name] = EndedJob(MainProcess(), Placement(), _lost(reason), files)

    def _add_ended(self, name: str, history: History, end: End) -> None:
        start = history.start
        main = MainProcess(start.pid, start.start, start.started_at)
        self._table.ended_jobs[name] = EndedJob.of(main, start.plan, end, self._layout.job(name))


def _lost(reason: Exception) -> End:
    return End(Lost(f"no supervisor could take it over: {reason}"), Cause.NONE, 0, {}, time.time())
