"""The life cycle of a job as a pure state machine: events in, actions out.

It has no clock and does no I/O. The caller passes the time, in seconds of CLOCK_BOOTTIME, and carries
out the actions. The supervisor calls it with events of the kernel, the fakes with simulated events, the
tests with events in every order.

    STARTING --Started--> RUNNING --stop, timeout, main process ended--> STOPPING
    all processes ended --Drain--> OutputDrained --Finish--> EXITED or LOST
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from .model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Lost,
    Signaled,
)
from .model.job import JobState, Leftovers

LEFTOVER_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for leftovers."""

KILL_AGAIN = 1.0
"""Seconds after which SIGKILL is repeated if processes remain."""


class InvalidTransition(Exception):
    """An event that is impossible in this state: a defect of the caller."""


@dataclass(frozen=True, slots=True)
class Started:
    """The command has been executed."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A request to stop the job: ``signal`` now, SIGKILL after ``grace`` seconds."""

    signal: int
    grace: float


@dataclass(frozen=True, slots=True)
class MainEnded:
    """The main process has ended; ``oom_kills`` is the current count of the job.

    ``cause`` is the cause that a previous supervisor of the job has recorded.
    """

    ending: Ending
    oom_kills: int = 0
    cause: Cause = Cause.NONE


@dataclass(frozen=True, slots=True)
class AllEnded:
    """All processes of the job have ended; ``oom_kills`` is the final count."""

    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class OutputDrained:
    """All output is recorded: ``output`` is the size of each channel, ``at`` is in seconds since 1970."""

    output: Mapping[Channel, int]
    at: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Time has passed; the deadline may have been reached."""


Event = Started | StopRequested | MainEnded | AllEnded | OutputDrained | TimePassed


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Signal every process of the job, and continue those that are stopped (SIGCONT)."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill every process of the job."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Record the rest of the output; no process writes any more."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Record the end, then report it."""

    end: End


Action = SendSignal | Kill | Drain | Finish


class Lifecycle:
    """The life cycle of one job. ``deadline`` is the time at which TimePassed is due; None: never."""

    __slots__ = (
        "_draining",
        "_empty",
        "_grace",
        "_killed",
        "_leftovers",
        "_oom_kills",
        "_signaled",
        "_timeout",
        "cause",
        "deadline",
        "ending",
        "state",
    )

    def __init__(self, *, timeout: float | None, grace: float, leftovers: Leftovers) -> None:
        self.state = JobState.STARTING
        self.ending: Ending | None = None
        self.cause = Cause.NONE
        self.deadline: float | None = None
        self._timeout = timeout
        self._grace = grace
        self._leftovers = leftovers
        self._signaled = False  # the stop signal was sent; the deadline is that of SIGKILL
        self._killed = False
        self._empty = False
        self._draining = False
        self._oom_kills = 0

    @property
    def draining(self) -> bool:
        """Whether all processes have ended and output is still being recorded."""
        return self._draining

    @property
    def next_signal(self) -> signal.Signals | None:
        """The signal that is sent at the deadline: SIGTERM at a timeout, SIGKILL after a grace period."""
        if self.deadline is None:
            return None
        return signal.SIGKILL if self._signaled else signal.SIGTERM

    def handle(self, event: Event, now: float) -> list[Action]:
        """Process an event and return the actions; raise InvalidTransition without any change."""
        match event:
            case Started():
                return self._started(now)
            case StopRequested():
                return self._stop_requested(event, now)
            case MainEnded():
                return self._main_ended(event, now)
            case AllEnded():
                return self._all_ended(event)
            case OutputDrained():
                return self._output_drained(event)
            case TimePassed():
                return self._time_passed(now)

    def _started(self, now: float) -> list[Action]:
        self._require(self.state is JobState.STARTING, "started twice")
        self.state = JobState.RUNNING
        if self._timeout is not None:
            self.deadline = now + self._timeout
        return []

    def _stop_requested(self, event: StopRequested, now: float) -> list[Action]:
        self._require_alive("stopped")
        if self._draining:
            return []
        if self._signaled:  # a second stop joins the first; it can only shorten the grace period
            if event.signal == signal.SIGKILL and not self._killed:
                return self._kill(now)
            if self.deadline is not None and not self._killed:
                self.deadline = min(self.deadline, now + event.grace)
            return []
        if self.ending is None:
            self.cause = Cause.STOPPED
        return self._terminate(event.signal, event.grace, now)

    def _main_ended(self, event: MainEnded, now: float) -> list[Action]:
        self._require_alive("main process ended")
        self._require(self.ending is None, "main process ended twice")
        self.ending = event.ending
        if event.cause is not Cause.NONE:
            self.cause = event.cause
        self._oom_kills = max(self._oom_kills, event.oom_kills)
        if self.cause is Cause.NONE and event.ending == Signaled(signal.SIGKILL) and self._oom_kills > 0:
            self.cause = Cause.OOM_KILLED
        if self._empty:
            return self._drain()
        self.state = JobState.STOPPING
        if self._signaled or self._leftovers is Leftovers.WAIT:
            return []
        return self._terminate(signal.SIGTERM, LEFTOVER_GRACE, now)

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
        return [Finish(End(self.ending, self.cause, self._oom_kills, event.output, event.at))]

    def _time_passed(self, now: float) -> list[Action]:
        if self.deadline is None or now < self.deadline:
            return []
        if self._signaled:
            return self._kill(now)
        if self.ending is None:
            self.cause = Cause.TIMED_OUT
        return self._terminate(signal.SIGTERM, self._grace, now)

    def _terminate(self, number: int, grace: float, now: float) -> list[Action]:
        self.state = JobState.STOPPING
        self._signaled = True
        if number == signal.SIGKILL or grace <= 0:
            return self._kill(now)
        self.deadline = now + grace
        return [SendSignal(number)]

    def _kill(self, now: float) -> list[Action]:
        self._killed = True
        self.deadline = now + KILL_AGAIN
        return [Kill()]

    def _drain(self) -> list[Action]:
        self._draining = True
        self.state = JobState.STOPPING
        self.deadline = None
        return [Drain()]

    def _require_alive(self, what: str) -> None:
        self._require(self.state is not JobState.STARTING and not self.state.over, what)

    def _require(self, condition: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
        if not condition:
            raise InvalidTransition(f"{what} while {self.state}")
