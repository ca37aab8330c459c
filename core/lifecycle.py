"""The life cycle of a job as a pure state machine: events in, actions out.

It has no clock and does no I/O. The caller passes the time, in seconds of CLOCK_BOOTTIME, and carries
out the actions. The supervisor calls it with events of the kernel, the fakes with simulated events, the
tests with events in every order.

    STARTING --Started--> RUNNING --stop, timeout, main process ended--> STOPPING
    all processes ended --Drain--> OutputDrained --Finish--> EXITED or LOST

termination.py describes which signals the processes get.
"""

import signal
from dataclasses import replace

from .lifecycle_events import (
    Action,
    AllEnded,
    Drain,
    Finish,
    Freeze,
    Kill,
    MainEnded,
    OutputDrained,
    PauseRequested,
    ResumeRequested,
    SendSignal,
    Started,
    StopRequested,
    Thaw,
    TimePassed,
    Whom,
)
from .model.ending import Cause, End, Ending, Lost, Signaled
from .model.job import DEFAULT_LINGER, JobState, Leftovers
from .termination import AFTER_MAIN, LEFTOVER_GRACE, Adopted, Termination

__all__ = [
    "AFTER_MAIN",
    "KILL_AGAIN",
    "LEFTOVER_GRACE",
    "Action",
    "Adopted",
    "AllEnded",
    "Drain",
    "Event",
    "Finish",
    "Freeze",
    "InvalidTransition",
    "Kill",
    "Lifecycle",
    "MainEnded",
    "OutputDrained",
    "PauseRequested",
    "ResumeRequested",
    "SendSignal",
    "Started",
    "StopRequested",
    "Termination",
    "Thaw",
    "TimePassed",
    "Whom",
]

Event = (
    Started
    | Adopted
    | StopRequested
    | PauseRequested
    | ResumeRequested
    | MainEnded
    | AllEnded
    | OutputDrained
    | TimePassed
)

KILL_AGAIN = 1.0
"""Seconds after which SIGKILL is repeated if processes remain."""


class InvalidTransition(Exception):
    """An event that is impossible in this state: a defect of the caller."""


class Lifecycle:
    """The life cycle of one job.

    ``termination`` is set as soon as its processes are to be ended. ``paused``: they are frozen.
    """

    __slots__ = (
        "_draining",
        "_empty",
        "_grace",
        "_kill_again_at",
        "_leftovers",
        "_linger",
        "_main_ended_at",
        "_oom_kills",
        "_signal_all",
        "_timeout",
        "_timeout_at",
        "cause",
        "ending",
        "paused",
        "state",
        "termination",
    )

    def __init__(
        self,
        *,
        timeout: float | None,
        grace: float,
        leftovers: Leftovers,
        linger: float = DEFAULT_LINGER,
        signal_all: bool = False,
    ) -> None:
        self.state = JobState.STARTING
        self.ending: Ending | None = None
        self.cause = Cause.NONE
        self.termination: Termination | None = None
        self.paused = False
        self._timeout = timeout
        self._grace = grace
        self._leftovers = leftovers
        self._linger = linger
        self._signal_all = signal_all
        self._timeout_at: float | None = None
        self._kill_again_at: float | None = None  # SIGKILL was sent
        self._main_ended_at = 0.0
        self._empty = False
        self._draining = False
        self._oom_kills = 0

    @property
    def draining(self) -> bool:
        """Whether all processes have ended and output is still being recorded."""
        return self._draining

    @property
    def deadline(self) -> float | None:
        """The time at which TimePassed is due; None: never."""
        due = [at for at in (self._timeout_at, self._others_at, self._kill_at) if at is not None]
        return None if self._draining else min(due, default=None)

    @property
    def next_signal(self) -> int | None:
        """The signal that is sent at the deadline."""
        deadline = self.deadline
        if deadline is None:
            return None
        if deadline == self._kill_at:
            return signal.SIGKILL
        if self.termination is not None and deadline == self._others_at:
            return self.termination.signal
        return signal.SIGTERM

    @property
    def pausable(self) -> bool:
        """Whether the job can be paused: it has processes, and none of them was signalled to end."""
        return self._alive and not self._draining and not self._ending_begun

    @property
    def _alive(self) -> bool:
        return self.state is not JobState.STARTING and not self.state.over

    @property
    def _ending_begun(self) -> bool:
        return self.termination is not None and self.termination.begun

    @property
    def _others_at(self) -> float | None:
        return self.termination.others_at if self.termination is not None else None

    @property
    def _kill_at(self) -> float | None:
        if self._kill_again_at is not None:
            return self._kill_again_at
        return self.termination.kill_at if self.termination is not None else None

    def handle(self, event: Event, now: float) -> list[Action]:
        """Process an event and return the actions; raise InvalidTransition without any change."""
        match event:
            case Started():
                actions = self._started(now)
            case Adopted():
                actions = self._adopted(event)
            case StopRequested():
                actions = self._stop_requested(event, now)
            case PauseRequested():
                actions = self._pause_requested()
            case ResumeRequested():
                actions = self._resume_requested()
            case MainEnded():
                actions = self._main_ended(event, now)
            case AllEnded():
                actions = self._all_ended(event)
            case OutputDrained():
                actions = self._output_drained(event)
            case TimePassed():
                actions = self._time_passed(event, now)
        return actions

    def _started(self, now: float) -> list[Action]:
        self._require(self.state is JobState.STARTING, "started twice")
        self.state = JobState.RUNNING
        if self._timeout is not None:
            self._timeout_at = now + self._timeout
        return []

    def _adopted(self, event: Adopted) -> list[Action]:
        self._require(self.state is JobState.RUNNING, "adopted")
        self.paused = event.paused
        if event.termination is None:
            return []
        self.state = JobState.STOPPING
        self.termination = event.termination
        self.cause = event.termination.cause
        if not event.termination.begun:
            return []
        self._timeout_at = None
        return self._thaw()  # the predecessor may have died between signal and thaw

    def _stop_requested(self, event: StopRequested, now: float) -> list[Action]:
        self._require_alive("stopped")
        if self._draining:
            return []
        if self._ending_begun:
            return self._join(event, now)
        if self.ending is None:
            self.cause = Cause.STOPPED
        return self._terminate(event, now)

    def _pause_requested(self) -> list[Action]:
        self._require(self.pausable, "paused")
        if self.paused:
            return []
        self.paused = True
        return [Freeze()]

    def _resume_requested(self) -> list[Action]:
        self._require_alive("resumed")
        return self._thaw()

    def _main_ended(self, event: MainEnded, now: float) -> list[Action]:
        self._require_alive("main process ended")
        self._require(self.ending is None, "main process ended twice")
        self.ending = event.ending
        self._main_ended_at = now
        if event.cause is not Cause.NONE:
            self.cause = event.cause
        self._oom_kills = max(self._oom_kills, event.oom_kills)
        if self.cause is Cause.NONE and event.ending == Signaled(signal.SIGKILL) and self._oom_kills > 0:
            self.cause = Cause.OOM_KILLED
        if self._empty:
            return self._drain()
        self.state = JobState.STOPPING
        if self.termination is not None:
            return self._signal_others_by(now + self._after_main, now) if self._ending_begun else []
        if self._leftovers is Leftovers.WAIT:
            return []
        self.termination = Termination.of_leftovers(self._linger, now)
        return self._signal_others_if_due(now)

    def _all_ended(self, event: AllEnded) -> list[Action]:
        self._require_alive("all processes ended")
        self._oom_kills = max(self._oom_kills, event.oom_kills)
        if self._empty:
            return []
        self._empty = True  # a cgroup can be empty before the main process is reaped
        return self._drain() if self.ending is not None else []

    def _output_drained(self, event: OutputDrained) -> list[Action]:
        self._require(self._draining and not self.state.over, "drained too early or twice")
        assert self.ending is not None
        self.state = JobState.LOST if isinstance(self.ending, Lost) else JobState.EXITED
        end = End(self.ending, self.cause, self._oom_kills, event.output, event.at, event.missing)
        return [Finish(end)]

    def _time_passed(self, event: TimePassed, now: float) -> list[Action]:
        if self.deadline is None or now < self.deadline:
            return []
        if self._kill_at is not None and now >= self._kill_at:
            return self._kill(now)
        if self._others_at is not None and now >= self._others_at:
            return self._signal_others_if_due(now)
        if self.ending is None:
            self.cause = Cause.TIMED_OUT
        return self._terminate(StopRequested(signal.SIGTERM, self._grace, ignored=event.ignored), now)

    # --- the end of the processes

    def _terminate(self, stop: StopRequested, now: float) -> list[Action]:
        """Begin to end the processes: none of them was signalled so far."""
        self.state = JobState.STOPPING
        self._timeout_at = None  # also before any signal: a stop supersedes the timeout
        lingering = self.termination
        main_runs = self.ending is None
        cause = self.cause if main_runs else Cause.NONE
        self.termination = Termination.requested(self._request(stop), now, cause, main_runs=main_runs)
        if stop.kills:
            return self._kill(now)
        if lingering is not None and lingering.others_at is not None:
            self.termination = self.termination.no_later_than(lingering.others_at, lingering.kill_at)
        if not main_runs:
            return self._signal_others_by(self._main_ended_at + self._after_main, now)
        if self._others_at is not None and self._others_at <= now:
            self.termination = self.termination.others_signaled()
            return self._send(Whom.ALL)
        return self._send(Whom.MAIN)

    def _join(self, stop: StopRequested, now: float) -> list[Action]:
        """Join the running termination: another stop can only shorten it."""
        assert self.termination is not None
        if self._kill_again_at is not None:
            return []
        if stop.signal == signal.SIGKILL:
            return self._kill(now)
        self.termination = self.termination.no_later_than(
            self._request(stop).others_at(now), now + stop.grace
        )
        return self._signal_others_if_due(now)

    def _request(self, stop: StopRequested) -> StopRequested:
        """Return the stop as it applies to this job."""
        return replace(stop, signal_all=stop.signal_all or self._signal_all)

    def _signal_others_by(self, at: float, now: float) -> list[Action]:
        assert self.termination is not None
        self.termination = self.termination.no_later_than(at)
        return self._signal_others_if_due(now)

    def _signal_others_if_due(self, now: float) -> list[Action]:
        assert self.termination is not None
        if self._others_at is None or now < self._others_at:
            return []
        self.termination = self.termination.others_signaled()
        return self._send(Whom.OTHERS)

    def _kill(self, now: float) -> list[Action]:
        assert self.termination is not None
        self.termination = self.termination.killed(now)
        self._kill_again_at = now + KILL_AGAIN
        self._timeout_at = None
        return [Kill(), *self._thaw()]

    def _send(self, whom: Whom) -> list[Action]:
        assert self.termination is not None
        self._timeout_at = None
        return [SendSignal(self.termination.signal, whom), *self._thaw()]

    def _thaw(self) -> list[Action]:
        if not self.paused:
            return []
        self.paused = False
        return [Thaw()]

    @property
    def _after_main(self) -> float:
        return min(AFTER_MAIN, self._linger)

    def _drain(self) -> list[Action]:
        self._draining = True
        self.state = JobState.STOPPING
        self.paused = False
        return [Drain()]

    def _require_alive(self, what: str) -> None:
        self._require(self._alive, what)

    def _require(self, condition: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
        if not condition:
            raise InvalidTransition(f"{what} while {self.state}")
