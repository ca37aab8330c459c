"""The events of the life cycle of a job, and the actions that follow from them."""

import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .model.ending import Cause, Channel, End, Ending


@dataclass(frozen=True, slots=True)
class Started:
    """The command has been executed."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A request to stop the job: ``signal``, and SIGKILL after ``grace`` seconds.

    ``signal_all``: signal every process at once. ``ignored``: the signals that the main process ignores
    or blocks now.
    """

    signal: int
    grace: float
    signal_all: bool = False
    ignored: Collection[int] = ()

    @property
    def kills(self) -> bool:
        """Whether no process has time to end by itself."""
        return self.signal == signal.SIGKILL or self.grace <= 0

    def others_at(self, now: float) -> float:
        """Return when the other processes get the signal at the latest."""
        return now if self.signal_all else now + self.grace / 2


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A request to freeze all processes, while the job is ``pausable``."""


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """A request to thaw all processes."""


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
    """All output is recorded: ``output`` is the size of each channel, ``at`` is in seconds since 1970.

    ``missing``: how many bytes of the end of a channel could not be recorded.
    """

    output: Mapping[Channel, int]
    at: float
    missing: Mapping[Channel, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Time has passed; the deadline may have been reached. ``ignored`` as in StopRequested."""

    ignored: Collection[int] = ()


class Whom(StrEnum):
    """Which processes of a job get a signal; OTHERS are all except the main process."""

    MAIN = "main"
    OTHERS = "others"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Signal these processes of the job, and continue those of them that are stopped (SIGCONT)."""

    number: int
    whom: Whom


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill every process of the job."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Freeze every process of the job."""


@dataclass(frozen=True, slots=True)
class Thaw:
    """Let the processes continue. It follows a signal: cgroup v1 delivers none to a frozen process."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Record the rest of the output; no process writes any more."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Record the end, then report it."""

    end: End


Action = SendSignal | Kill | Freeze | Thaw | Drain | Finish
