"""The life of a job as one pure state machine: events in, actions out.

It has no clock and does no I/O; whoever drives it passes the time, in seconds of
CLOCK_BOOTTIME, and carries out the actions. The supervisor drives it with the kernel's
events, the fakes with made-up ones, the tests with all orders of them.

    STARTING --Started--> RUNNING --stop, timeout, main ended--> STOPPING
    main ended and group empty --Drain--> OutputDrained --Finish--> EXITED or LOST
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
"""Seconds between SIGTERM and SIGKILL for what outlives the main process."""

KILL_AGAIN = 1.0
"""Seconds after which a SIGKILL that has not ended everything is repeated."""


class WrongStep(Exception):
    """An event that cannot happen in this state: the driver is at fault."""


@dataclass(frozen=True, slots=True)
class Started:
    """The command has been executed."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants the job to end: ``signal`` now, SIGKILL after ``grace`` seconds."""

    signal: int
    grace: float


@dataclass(frozen=True, slots=True)
class MainEnded:
    """The main process has ended; ``oom_kills`` is the group's count at this moment.

    ``cause`` is why it was being ended, as far as an earlier owner of the job knew.
    """

    ending: Ending
    oom_kills: int = 0
    cause: Cause = Cause.NONE


@dataclass(frozen=True, slots=True)
class GroupEmptied:
    """No process of the job is left; ``oom_kills`` is the final count."""

    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class OutputDrained:
    """Everything written is recorded: ``output`` bytes per channel; ``at`` in seconds since 1970."""

    output: Mapping[Channel, int]
    at: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The clock has moved on, perhaps past the deadline."""


Event = Started | StopRequested | MainEnded | GroupEmptied | OutputDrained | TimePassed


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Signal every process of the job, and wake those that are stopped."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End every process of the job, whatever it does."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Have the rest of the output recorded; nobody writes any more."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Record the end, then tell it."""

    end: End


Action = SendSignal | Kill | Drain | Finish


class Lifecycle:
    """One job's life. ``deadline`` is when TimePassed is due next; None: never."""

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
        self._signaled = False  # asked to end; the deadline is that of the SIGKILL
        self._killed = False
        self._empty = False
        self._draining = False
        self._oom_kills = 0

    @property
    def draining(self) -> bool:
        """Whether no process is left and only output is waited for."""
        return self._draining

    @property
    def next_signal(self) -> signal.Signals | None:
        """The signal that is sent at the deadline: SIGTERM at a timeout, SIGKILL after a grace period."""
        if self.deadline is None:
            return None
        return signal.SIGKILL if self._signaled else signal.SIGTERM

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one step and return what is to be done; raise WrongStep and change nothing if it is none."""
        match event:
            case Started():
                return self._started(now)
            case StopRequested():
                return self._stop_requested(event, now)
            case MainEnded():
                return self._main_ended(event, now)
            case GroupEmptied():
                return self._group_emptied(event)
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
        if self._signaled:  # a second stop joins the first; it can only shorten the wait
            if event.signal == signal.SIGKILL and not self._killed:
                return self._kill(now)
            if self.deadline is not None and not self._killed:
                self.deadline = min(self.deadline, now + event.grace)
            return []
        if self.ending is None:
            self.cause = Cause.STOPPED
        return self._ask_to_end(event.signal, event.grace, now)

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
        return self._ask_to_end(signal.SIGTERM, LEFTOVER_GRACE, now)

    def _group_emptied(self, event: GroupEmptied) -> list[Action]:
        self._require_alive("group emptied")
        self._oom_kills = max(self._oom_kills, event.oom_kills)
        if self._empty:
            return []
        self._empty = True  # before the main process is reaped its group may be empty already
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
        return self._ask_to_end(signal.SIGTERM, self._grace, now)

    def _ask_to_end(self, number: int, grace: float, now: float) -> list[Action]:
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
            raise WrongStep(f"{what} while {self.state}")
