"""One job under supervision: the state machine of core, driven by the kernel's events."""

import os
import select
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

from ...core.lifecycle import (
    Action,
    Drain,
    Event,
    Finish,
    GroupEmptied,
    Kill,
    Lifecycle,
    MainEnded,
    OutputDrained,
    SendSignal,
    Started,
    StopRequested,
    TimePassed,
)
from ...core.model.ending import (
    Channel,
    End,
    Ending,
    Lost,
)
from ...core.steps import Step, reached
from ..ipc.encoding import SpawnPlan
from ..ipc.event_loop import Loop, boottime
from ..kernel import procfs
from ..recorder.client import RecorderClient
from ..state.history import (
    History,
    StartRecord,
    open_history,
    remove_history,
    write_end,
    write_generation,
    write_main,
    write_start,
    write_stop,
)
from ..state.job_directory import fifo_path, history_path
from .birth import Newborn, Zygote, ZygoteDied
from .job_processes import (
    JobProcesses,
    is_empty,
    oom_kills,
    processes_of,
)
from .orphan import OrphanedProcess
from .retried_writes import RetriedWrites

_LOOK_AGAIN = 0.01
"""Seconds until another look at a group that cannot tell when it empties; doubles up to the longest."""
_LOOK_LONGEST = 0.2

_MOST_ZYGOTES = 5
"""That are asked for a child, should one after the other be killed."""

DIED_UNSEEN = (
    "it ended while its supervisor was dead: nobody saw how, and what it wrote last may be missing"
)


class Observer(Protocol):
    """Whoever is told what becomes of a job."""

    def started(self, job: "Job") -> None:
        """The command has been executed."""

    def failed(self, job: "Job", stage: str, number: int) -> None:
        """The command could not be executed: ``number`` is the errno of ``stage``."""

    def progressed(self, job: "Job") -> None:
        """The state has changed, or the main process has ended."""

    def ended(self, job: "Job") -> None:
        """The job is over, and that is recorded."""


class Job:
    """A job from its birth until it is forgotten."""

    def __init__(
        self,
        name: str,
        directory: str,
        generation: str,
        plan: SpawnPlan,
        loop: Loop,
        zygote: Zygote,
        recorder: RecorderClient,
        writes: RetriedWrites,
        observer: Observer,
    ) -> None:
        self.name = name
        self.directory = directory
        self.plan = plan
        self.pid = 0
        self.start = 0
        self.started_at = 0.0
        self.end: End | None = None
        self.output_trouble = ""
        self.life = Lifecycle(timeout=plan.timeout, grace=plan.grace, leftovers=plan.leftovers)
        self._history_path = history_path(directory)
        self._generation = generation
        self._loop = loop
        self._zygote = zygote
        self._recorder = recorder
        self._writes = writes
        self._observer = observer
        self._newborn: Newborn | None = None
        self._stop_at_birth: StopRequested | None = None
        self._processes: JobProcesses | None = None
        self._orphan: OrphanedProcess | None = None
        self._events: int | None = None
        self._look_at: float | None = None
        self._look_pause = _LOOK_AGAIN
        self._fifos: dict[Channel, int] = {}

    # --- birth

    def spawn(self) -> None:
        """Clone, record, release. The observer is told the outcome; OSError if it cannot even begin."""
        try:
            self.open_fifos()
        except OSError:
            self._close()
            raise
        # Before there is anybody to write: whoever dies, what the job writes is held by somebody from here
        # on. And the recorder has done its part by the time of the exec, which has the CPU for itself then.
        self._record()
        try:
            newborn = self._bear_at_last()
        except OSError:
            self._give_up()
            raise
        reached(Step.RECORDED, self.name)
        with suppress(BrokenPipeError):  # it has failed already, and tells why
            os.write(newborn.release, b"!")
        reached(Step.RELEASED, self.name)

    def _bear_at_last(self) -> Newborn:
        """Have a child that is recorded and waits, of another zygote if one dies."""
        for _ in range(_MOST_ZYGOTES - 1):
            with suppress(ZygoteDied):
                return self._bear()
            remove_history(self._history_path)  # if there is a child, it writes into what has no name
        return self._bear()

    def _bear(self) -> Newborn:
        stdout = self._fifos.get(Channel.STDOUT, self._fifos.get(Channel.OUTPUT))
        stderr = self._fifos.get(Channel.STDERR, self._fifos.get(Channel.OUTPUT))
        assert stdout is not None
        assert stderr is not None
        history = open_history(self._history_path)
        try:
            newborn = self._zygote.bear(self.plan, stdout, stderr, history)
            self._note_birth(newborn, history)
        finally:
            os.close(history)
        return newborn

    def _note_birth(self, newborn: Newborn, history: int) -> None:
        reached(Step.CLONED, self.name)
        self._newborn = newborn
        self.pid = newborn.pid
        self.started_at = time.time()
        self._processes = self._find_processes(self.pid)
        try:
            self._loop.watch(newborn.errors, self.settle_birth)
            self._write_start(history)
        except OSError:
            self._end_birth()  # nobody lets the child go now, so it ends itself
            raise

    def settle_birth(self) -> None:
        """Learn whether the command was executed, if that is known by now."""
        if self._newborn is None:
            return
        try:
            complaint = os.read(self._newborn.errors, 100)
        except BlockingIOError:
            return
        self._end_birth()
        if complaint:
            stage, _, number = complaint.decode().rpartition(" ")
            self._give_up()
            self._observer.failed(self, stage, int(number))
        else:
            reached(Step.EXECUTED, self.name)
            self._handle(Started())
            self._observer.started(self)
            if self._stop_at_birth is not None:
                self.stop(self._stop_at_birth.signal, self._stop_at_birth.grace)

    def _end_birth(self) -> None:
        assert self._newborn is not None
        self._loop.unwatch(self._newborn.errors)
        os.close(self._newborn.errors)
        os.close(self._newborn.release)
        self._newborn = None

    def _write_start(self, history: int) -> None:
        stat = procfs.stat(self.pid)
        deadline = None if self.plan.timeout is None else boottime() + self.plan.timeout
        self.start = stat.start if stat else 0
        record = StartRecord(self.pid, self.start, procfs.boot_id(), self.started_at, deadline, self.plan)
        write_start(self._history_path, history, record, self._generation)

    def _give_up(self) -> None:
        """Leave nothing of a job that never ran."""
        self._recorder.drop(self.name)
        remove_history(self._history_path)
        self._close()

    def open_fifos(self) -> None:
        """Hold the FIFOs open, so that what is in them outlives the job and the recorder."""
        for channel in self.plan.channels:
            path = fifo_path(self.directory, channel)
            self._fifos[channel] = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def _record(self) -> None:
        self._recorder.record(self.name, self.directory, self.plan, self._fifos.values())

    def _find_processes(self, main: int) -> JobProcesses:
        return processes_of(self.plan.placement, main, f"WORKER_JOB_ID={self.name}".encode())

    def adopt(self, history: History, pidfd: int | None) -> None:
        """Take over a job whose supervisor has died; with a pidfd of its main process, if there is one.

        Its FIFOs are held already.
        """
        record, known = history.start, history.main
        self.pid, self.start, self.started_at = record.pid, record.start, record.started_at
        same_boot = record.boot_id == procfs.boot_id()
        orphan = OrphanedProcess.find(record, pidfd) if same_boot and known is None else None
        # The number of a dead main process may be somebody else's session by now.
        self._processes = self._find_processes(self.pid if orphan else 0)
        self._writes.write(partial(write_generation, self._history_path, self._generation))
        self._record()
        self._handle(Started())
        if known is not None:
            self._handle(known)
        if history.stop is not None:  # once more: nobody knows whether the signal was sent
            number, kill_at = history.stop
            self._handle(StopRequested(number, max(0.0, kill_at - boottime())))
        if known is not None:
            self._look_at_group()
        elif orphan is not None:
            self._orphan = orphan
            self._loop.watch(orphan.pidfd, self._orphan_ended)
        else:
            self.main_ended(Lost(DIED_UNSEEN if same_boot else "the machine restarted"))

    def abandon(self, history: History) -> None:
        """End what cannot be taken over: nobody would ever know when it ends."""
        record = history.start
        orphan = OrphanedProcess.find(record, None) if record.boot_id == procfs.boot_id() else None
        try:
            self._find_processes(record.pid if orphan else 0).kill()
        finally:
            if orphan is not None:
                orphan.close()
            self._recorder.drop(self.name)
            self._close()
            self._loop.call_at(self._pass_time, None)

    def _orphan_ended(self) -> None:
        """Ask for the exit code until init has reaped the process, or it is clear that nobody knows."""
        assert self._orphan is not None
        self._loop.unwatch(self._orphan.pidfd)
        ending = self._orphan.ending()
        if ending is None:
            self._look(boottime() + _LOOK_LONGEST)
            return
        self._orphan.close()
        self._orphan = None
        self.main_ended(ending)

    # --- events

    def main_ended(self, ending: Ending) -> None:
        """The kernel says how the main process ended; it is not reaped yet."""
        self.settle_birth()
        if self.pid and self.life.ending is None and self._processes is not None:
            main = MainEnded(ending, oom_kills(self.plan.placement), self.life.cause)
            self._writes.write(partial(write_main, self._history_path, main))
            reached(Step.MAIN_EXIT_RECORDED, self.name)
            if is_empty(self._processes):  # then there is nobody to be asked to end
                self._handle(GroupEmptied(main.oom_kills))
            self._handle(main)
            self._look_at_group()
            self._observer.progressed(self)

    def stop(self, number: int, grace: float) -> None:
        """Somebody wants the job to end."""
        request = StopRequested(number, grace)
        if self._newborn is not None:
            self._stop_at_birth = request
        elif self.end is None:
            note = partial(write_stop, self._history_path, number, boottime() + grace)
            self._writes.write(note)
            self._handle(request)
            self._observer.progressed(self)

    def _pass_time(self) -> None:
        """Do what is due."""
        now = boottime()
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
            if self._orphan is not None:
                self._orphan_ended()
            self._look_at_group()
        if self.life.deadline is not None and now >= self.life.deadline:
            self._handle(TimePassed())
            self._observer.progressed(self)
        self._set_alarm()

    def drained(self, output: Mapping[Channel, int]) -> None:
        """All output is recorded."""
        reached(Step.DRAINED, self.name)
        self._handle(OutputDrained(output, time.time()))

    def recording_troubled(self, reason: str) -> None:
        """Its output cannot be recorded, or can be again: ``reason`` is empty then."""
        if reason != self.output_trouble:
            self.output_trouble = reason
            self._observer.progressed(self)

    def survivors(self) -> list[tuple[int, str]]:
        """Return pid and state of each process that is left."""
        pids = self._processes.pids() if self._processes else []
        stats = ((pid, procfs.stat(pid)) for pid in pids)
        return [(pid, stat.state) for pid, stat in stats if stat is not None]

    def _look_at_group(self) -> None:
        """Notice that the group is empty, or see to it that this will be noticed."""
        if self._processes is None or self.life.ending is None or self.life.draining:
            return
        if is_empty(self._processes):
            self._stop_looking()
            self._handle(GroupEmptied(oom_kills(self.plan.placement)))
            return
        if self._events is None:
            self._events = self._processes.open_events()
            if self._events is not None:
                self._loop.watch(self._events, self._group_changed, select.EPOLLPRI)
        # The events tell of v2 alone, and not of what happened between the look and the watch.
        self._look(boottime() + self._look_pause)
        self._look_pause = min(2 * self._look_pause, _LOOK_LONGEST)

    def _group_changed(self) -> None:
        assert self._events is not None
        with suppress(OSError):  # ENODEV: the group has been removed
            os.pread(self._events, 100, 0)  # takes the notice back (kernfs)
        self._look_at_group()

    def _look(self, at: float | None) -> None:
        self._look_at = at
        self._set_alarm()

    def _set_alarm(self) -> None:
        times = [at for at in (self.life.deadline, self._look_at) if at is not None]
        self._loop.call_at(self._pass_time, min(times, default=None))

    def _stop_looking(self) -> None:
        self._look(None)
        if self._events is not None:
            self._loop.unwatch(self._events)
            os.close(self._events)
            self._events = None

    # --- actions

    def _handle(self, event: Event) -> None:
        for action in self.life.handle(event, boottime()):
            self._carry_out(action)
        self._set_alarm()

    def _carry_out(self, action: Action) -> None:
        assert self._processes is not None
        match action:
            case SendSignal(number):
                self._processes.signal(number)
            case Kill():
                self._processes.kill()
            case Drain():
                reached(Step.LEFTOVERS_GONE, self.name)
                self._recorder.finish(self.name)
            case Finish(end):
                self._writes.write(partial(write_end, self._history_path, end))
                reached(Step.EXIT_RECORDED, self.name)
                self.end = end
                self._close()
                self._observer.ended(self)

    def _close(self) -> None:
        self._stop_looking()
        self._processes = None
        for fd in self._fifos.values():
            os.close(fd)
        self._fifos.clear()
