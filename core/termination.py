"""Which processes of a job get which signal when: the plan for the end of a job, as an immutable value.

A stop and a timeout signal the main process at once, and the other processes

- at once if the main process ignores or blocks the signal, or if that is requested (``signal_all``),
- otherwise AFTER_MAIN seconds, at most the linger, after the main process has ended,
- at the latest after half of the grace period.

SIGKILL follows after the grace period. If the main process ends by itself, its leftovers have the linger
to end by themselves before SIGTERM, and LEFTOVER_GRACE seconds from that to SIGKILL.
"""

import signal
from dataclasses import dataclass, replace

from .lifecycle_events import StopRequested
from .model.ending import Cause

AFTER_MAIN = 0.2
"""Seconds that a stop gives to the other processes after the end of the main process, before the signal."""

LEFTOVER_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for leftovers."""


@dataclass(frozen=True, slots=True)
class Termination:
    """What was sent to end the processes of a job, and when the next signal is due.

    It is recorded before the signal is sent, so that a successor of the supervisor repeats nothing.
    Times are in seconds of CLOCK_BOOTTIME. ``others_at`` is when the other processes get the signal;
    None: they have got it. ``cause`` is why the main process ends; NONE: it had ended before.
    """

    signal: int
    main_signaled: bool
    others_at: float | None
    kill_at: float
    cause: Cause = Cause.NONE

    @classmethod
    def of_leftovers(cls, linger: float, now: float) -> "Termination":
        """Return the plan for leftovers of a main process that has ended by itself."""
        return cls(signal.SIGTERM, False, now + linger, now + linger + LEFTOVER_GRACE)

    @classmethod
    def requested(cls, stop: StopRequested, now: float, cause: Cause, *, main_runs: bool) -> "Termination":
        """Return the plan for a stop; the main process, if it runs, is signalled now."""
        all_now = main_runs and stop.signal in stop.ignored
        others_at = now if all_now else stop.others_at(now)
        return cls(stop.signal, main_runs, others_at, now + stop.grace, cause)

    @property
    def begun(self) -> bool:
        """Whether any signal was sent; before that leftovers have time to end by themselves."""
        return self.main_signaled or self.others_at is None

    def no_later_than(self, others_at: float, kill_at: float | None = None) -> "Termination":
        """Return the plan with these times where they are earlier."""
        return replace(
            self,
            others_at=None if self.others_at is None else min(self.others_at, others_at),
            kill_at=self.kill_at if kill_at is None else min(self.kill_at, kill_at),
        )

    def others_signaled(self) -> "Termination":
        """Return the plan after the other processes were signalled."""
        return replace(self, others_at=None)

    def killed(self, now: float) -> "Termination":
        """Return the plan after SIGKILL was sent."""
        return replace(self, main_signaled=True, others_at=None, kill_at=min(self.kill_at, now))


@dataclass(frozen=True, slots=True)
class Adopted:
    """Another supervisor continues a job that has started: what its predecessor has left.

    ``paused``: the processes are frozen.
    """

    termination: Termination | None = None
    paused: bool = False
