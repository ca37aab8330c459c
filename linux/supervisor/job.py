"""One job under supervision: the state machine of core, driven by the kernel's events."""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from ...core.lifecycle import (
    Action,
    Adopted,
    AllEnded,
    Drain,
    Event,
    Finish,
    Freeze,
    Kill,
    Lifecycle,
    MainEnded,
    OutputDrained,
    PauseRequested,
    ResumeRequested,
    SendSignal,
    Started,
    StopRequested,
    Termination,
    Thaw,
    TimePassed,
    Whom,
)
from ...core.model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Lost,
)
from ...core.model.job import JobState
from ...core.model.terminal import WindowSize
from ...core.ports import Progress
from ...core.steps import Step, reached
from ..ipc.encoding import SpawnPlan
from ..ipc.event_loop import Loop, boottime
from ..kernel import procfs
from ..recorder.client import RecorderClient
from ..state.credentials import VARIABLE, remove_credentials
from ..state.history import (
    History,
    StartRecord,
    open_history,
    remove_history,
    write_end,
    write_generation,
    write_input_end,
    write_main,
    write_termination,
)
from ..state.job_directory import history_path, remove_if_empty
from ..zygote.client import Zygote
from .freezer import freeze_processes, is_freezing, is_frozen, thaw_processes
from .job_processes import (
    JobProcesses,
    is_empty,
    oom_kills,
    processes_of,
)
from .job_signals import end_by_signal, ignored_signals, send_signal
from .job_start import KILLED, NO_HISTORY, JobStart, MainProcess
from .job_streams import JobStreams
from .left_files import LeftFiles
from .leftovers_watch import LeftoversWatch
from .orphaned_process import OrphanedProcess, OrphanWatch
from .retried_writes import RetriedWrites

OUT_OF_MEMORY = "out of memory"
"""The stage of a failure: the OOM killer ended the process before it executed the command."""

ENDED_UNOBSERVED = (
    "it ended while its supervisor was dead: its exit code is unknown, and its last output may be missing"
)


@dataclass(frozen=True, slots=True)
class Services:
    """What all jobs of a supervisor share."""

    generation: str
    loop: Loop
    zygote: Zygote
    recorder: RecorderClient
    writes: RetriedWrites


class Observer(Protocol):
    """Receives the events of jobs."""

    def started(self, job: "Job") -> None:
        """The command has been executed."""

    def failed(self, job: "Job", stage: str, number: int) -> None:
        """The command could not be executed: ``number`` is the errno of ``stage``."""

    def progressed(self, job: "Job") -> None:
        """The state has changed, or the main process has ended."""

    def ended(self, job: "Job") -> None:
        """The job has ended, and its end is recorded."""


class Job:
    """A job from its start, or its adoption, to its end."""

    def __init__(
        self,
        name: str,
        directory: str,
        plan: SpawnPlan,
        timeout: float | None,
        services: Services,
        observer: Observer,
    ) -> None:
        self.name = name
        self.plan = plan
        self.main = MainProcess()
        self.end: End | None = None
        self.output_trouble = ""
        self.life = Lifecycle(
            timeout=timeout,
            grace=plan.spec.grace,
            leftovers=plan.spec.leftovers,
            linger=plan.spec.effective_linger,
            signal_all=plan.spec.signal_all,
        )
        self._history_path = history_path(directory)
        self._history = NO_HISTORY
        self._services = services
        self._loop = services.loop
        self._writes = services.writes
        self._observer = observer
        self._directory = directory
        self.streams = JobStreams(name, directory, plan, services.recorder, services.zygote)
        self._start: JobStart | None = None
        self._stops_before_exec: list[StopRequested] = []
        self._stopped = False
        self._recorded_termination: Termination | None = None
        self._processes: JobProcesses | None = None
        self._leftovers: LeftoversWatch | None = None

    # --- start

    def spawn(self) -> None:
        """Start the command. The observer receives the outcome; OSError if no child can be cloned."""
        try:
            self.streams.create()
        except BaseException:
            self.streams.discard()
            self._close()
            raise
        # Before the clone: from here on the recorder holds the FIFOs too, even if server and supervisor
        # die. And it has finished this work by the time of the exec, and does not compete for the CPU.
        self.streams.record()
        self._start = JobStart(
            self.name,
            self.plan,
            self._history_path,
            self._services.generation,
            self._loop,
            self._executed,
            self._failed,
        )
        try:
            self._start.clone(self._services.zygote, self.streams)
        except BaseException:
            self._discard()
            raise
        self.streams.input.started()
        self.main, self._history = self._start.main, self._start.history
        self._find_processes(self.main.pid)

    def _executed(self) -> None:
        assert self._start is not None
        self.main = self._start.main
        self._handle(Started())
        self._observer.started(self)
        for request in self._stops_before_exec:
            self.stop(request)

    def _failed(self, stage: str, number: int) -> None:
        if stage == KILLED and oom_kills(self.plan.placement):
            stage = OUT_OF_MEMORY
        self._discard()
        self._observer.failed(self, stage, number)

    def _discard(self) -> None:
        """Delete what exists of a job that never ran."""
        self.streams.discard()
        self._remove_credentials()
        remove_history(self._history_path)
        remove_if_empty(self._directory)
        self._close()

    def _remove_credentials(self) -> None:
        """Delete the secrets of the job, if it has any: no process of it is left."""
        if VARIABLE in self.plan.env:
            remove_credentials(os.path.dirname(os.path.dirname(self._directory)), self.name)

    def _find_processes(self, main: int) -> JobProcesses:
        if self._leftovers is not None:  # of an adoption that failed
            self._leftovers.close()
        self._processes = processes_of(self.plan.placement, main, self.name)
        self._leftovers = LeftoversWatch(self._loop, self._processes, self._emptied)
        return self._processes

    # --- adoption from a supervisor that has died

    def hold_fifos(self) -> None:
        """Hold the FIFOs open: the recorder of the dead supervisor will be stopped. OSError if refused."""
        self.streams.hold()

    def adopt(self, history: History, pidfd: int | None, left: LeftFiles) -> None:
        """Take over the job, whose FIFOs are held; ``pidfd`` is that of its main process, if it has one."""
        record, known = history.start, history.main
        self.main = MainProcess(record.pid, record.start, record.started_at)
        same_boot = record.boot_id == procfs.boot_id()
        orphan = OrphanedProcess.find(record, pidfd) if same_boot and known is None else None
        # The pid of a dead main process may be the session of an unrelated process by now.
        self._find_processes(record.pid if orphan else 0).pids()  # OSError if they cannot be listed
        self._history = open_history(self._history_path)
        self._write(partial(write_generation, self._history, self._services.generation))
        self.streams.adopt(left, history.input_end)
        self._handle(Started())
        self._recorded_termination = history.termination
        self._stopped = history.termination is not None and history.termination.cause is Cause.STOPPED
        self._handle(Adopted(history.termination, paused=is_freezing(self.plan.placement)))
        if known is not None:
            self._handle(known)
            self._watch_leftovers()
        elif orphan is not None:
            OrphanWatch(self._loop, orphan, self.main_ended)
        else:
            self.main_ended(Lost(ENDED_UNOBSERVED if same_boot else "the machine restarted"))

    def abandon(self, record: StartRecord) -> None:
        """Kill a job that cannot be adopted: its end could never be recorded."""
        orphan = OrphanedProcess.find(record, None) if record.boot_id == procfs.boot_id() else None
        try:
            self._find_processes(record.pid if orphan else 0).kill()
            thaw_processes(self.plan.placement)
        finally:
            if orphan is not None:
                orphan.close()
            self.streams.discard()
            self._remove_credentials()
            self._close()
            self._loop.call_at(self._pass_time, None)

    # --- events

    def main_ended(self, ending: Ending) -> None:
        """Handle the end of the main process; our own child is not reaped yet."""
        if self._start is not None:
            self._start.child_ended(ending)
        if self.main.pid and self.life.ending is None and self._processes is not None:
            main = MainEnded(ending, oom_kills(self.plan.placement), self.life.cause)
            self._write(partial(write_main, self._history, main))
            reached(Step.MAIN_EXIT_RECORDED, self.name)
            if is_empty(self._processes):  # then there are no leftovers to stop
                self._handle(AllEnded(main.oom_kills))
            self._handle(main)
            self._watch_leftovers()
            self._observer.progressed(self)

    def stop(self, request: StopRequested) -> None:
        """Stop the job; which signals its main process ignores is added here."""
        if self._start is not None and self._start.pending:
            self._stops_before_exec.append(request)
        elif self.end is None:
            self._stopped = True
            if self.life.draining:
                self.streams.output.drain(discard=True)
            self._handle(replace(request, ignored=ignored_signals(self.main)))
            self._observer.progressed(self)

    def signal(self, number: int, whom: Whom) -> None:
        """Send a signal and do nothing else; OSError if that is refused."""
        if self._processes is not None and self.life.state is not JobState.STARTING:
            send_signal(self._processes, self.main, number, whom)

    def pause(self) -> bool:
        """Freeze the processes; return whether all of them are frozen by now. Idempotent.

        OSError if that is refused, also once the processes are being ended.
        """
        if not self.life.pausable:
            raise OSError(errno.EBUSY, "the job is being stopped")
        try:
            self._handle(PauseRequested())
        except OSError:
            self._handle(ResumeRequested())
            raise
        self._observer.progressed(self)
        return is_frozen(self.plan.placement)

    def resume(self) -> None:
        """Thaw the processes. Idempotent."""
        if self.end is None and self.life.state is not JobState.STARTING:
            self._handle(ResumeRequested())
            self._observer.progressed(self)

    def feed(self, end_at: int | None) -> None:
        """Pass on the input that is in the spool by now; ``end_at`` is its size, if no more follows."""
        stdin = self.streams.input
        if end_at is not None and stdin.end_at is None:
            stdin.end_at = end_at
            self._write(partial(write_input_end, self._history, end_at))
        stdin.feed()

    def resize(self, size: WindowSize) -> None:
        """Change the size of the job's terminal."""
        self.streams.terminal.resize(size)

    def drained(self, output: Mapping[Channel, int], missing: Mapping[Channel, int]) -> None:
        """Handle that all output is recorded: ``output`` bytes per channel; ``missing`` were discarded."""
        reached(Step.DRAINED, self.name)
        sizes = {**output, **self.streams.output.appended_sizes()}
        self._handle(OutputDrained(sizes, time.time(), missing))

    def _appended(self) -> None:
        self.drained({}, {})

    def output_troubled(self, reason: str) -> None:
        """Handle that the output cannot be recorded; ``reason`` is empty when it can be again."""
        if reason != self.output_trouble:
            self.output_trouble = reason
            self._observer.progressed(self)

    @property
    def progress(self) -> Progress:
        """The state of the job now."""
        life = self.life
        return Progress(life.state, life.ending, life.cause, self.output_trouble, life.paused)

    def survivors(self) -> list[tuple[int, str]]:
        """Return pid and state of each process that is left."""
        pids = self._processes.pids() if self._processes else []
        stats = ((pid, procfs.stat(pid)) for pid in pids)
        return [(pid, stat.state) for pid, stat in stats if stat is not None]

    def _watch_leftovers(self) -> None:
        if self._leftovers is not None and not self.life.draining:
            self._leftovers.begin()

    def _emptied(self) -> None:
        self._handle(AllEnded(oom_kills(self.plan.placement)))

    def _pass_time(self) -> None:
        if self.life.deadline is not None and boottime() >= self.life.deadline:
            self._handle(TimePassed(ignored_signals(self.main)))
            self._observer.progressed(self)
        self._set_alarm()

    def _set_alarm(self) -> None:
        self._loop.call_at(self._pass_time, self.life.deadline)

    # --- actions

    def _handle(self, event: Event) -> None:
        actions = self.life.handle(event, boottime())
        self._record_termination()
        try:
            for action in actions:
                self._perform(action)
        finally:  # also if no descriptor was free to signal a process: SIGKILL follows, and is repeated
            self._set_alarm()

    def _record_termination(self) -> None:
        termination = self.life.termination
        if termination is not None and termination != self._recorded_termination:
            self._recorded_termination = termination
            self._write(partial(write_termination, self._history, termination))
            reached(Step.TERMINATION_RECORDED, self.name)

    def _perform(self, action: Action) -> None:
        assert self._processes is not None
        match action:
            case SendSignal(number, whom):
                end_by_signal(self._processes, self.main, number, whom)
                reached(Step.SIGNALED, self.name)
            case Kill():
                self._processes.kill()
                reached(Step.SIGNALED, self.name)
            case Freeze():
                freeze_processes(self.plan.placement)
            case Thaw():
                thaw_processes(self.plan.placement)
            case Drain():
                reached(Step.ALL_ENDED, self.name)
                self._remove_credentials()
                if not self.streams.output.drain(discard=self._stopped):
                    # In the next round: an event is being handled now.
                    self._loop.call_at(self._appended, boottime())
            case Finish(end):
                self._write(partial(write_end, self._history, end))
                reached(Step.EXIT_RECORDED, self.name)
                self.end = end
                self._close()
                self._observer.ended(self)

    def _close(self) -> None:
        """Close all files."""
        if self._leftovers is not None:
            self._leftovers.close()
        self._leftovers = self._processes = None
        self._loop.call_at(self._appended, None)
        self.streams.close()
        if self._history != NO_HISTORY:
            self._write(partial(os.close, self._history))  # after what is still to be written
            self._history = NO_HISTORY

    def _write(self, write: Callable[[], None]) -> None:
        self._writes.write(self.name, write)
