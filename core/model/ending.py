"""How a job ended: the ending that the kernel reported (wait(2)), and its cause.

The two are separate: a stopped job may still have exited with code 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .channel import Channel

__all__ = ["Cause", "Channel", "End", "Ending", "Exited", "Lost", "Signaled", "exit_code"]


@dataclass(frozen=True, slots=True)
class Exited:
    """The main process called exit (WIFEXITED) with this code, 0 to 255."""

    code: int


@dataclass(frozen=True, slots=True)
class Signaled:
    """A signal ended the main process (WIFSIGNALED)."""

    number: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The ending of the main process cannot be determined."""

    reason: str


Ending = Exited | Signaled | Lost


def exit_code(ending: Ending) -> int:
    """Return the exit code as a shell reports it: the code, 128 + signal, or -1 for a lost job."""
    match ending:
        case Exited(code):
            return code
        case Signaled(number):
            return 128 + number
        case Lost():
            return -1


class Cause(StrEnum):
    """Why the main process ended."""

    NONE = "none"
    STOPPED = "stopped"
    TIMED_OUT = "timed out"
    OOM_KILLED = "OOM killed"


@dataclass(frozen=True, slots=True)
class End:
    """The end of a job: ending, cause, number of OOM kills.

    ``output`` is the exact size of each channel in bytes, ``ended_at`` in seconds since 1970. ``missing``
    is how many bytes each had after that: the disk was full, and a stop does not wait for space.
    """

    ending: Ending
    cause: Cause
    oom_kills: int
    output: Mapping[Channel, int]
    ended_at: float
    missing: Mapping[Channel, int] = field(default_factory=dict)
