"""How a job ended: what the kernel said (wait(2)), and why it came to that.

The two are kept apart: a job that was stopped may still have exited with code 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """Nobody can know any more how the main process ended."""

    reason: str


Ending = Exited | Signaled | Lost


def exit_code(ending: Ending) -> int:
    """Return the one number of a shell: the code, 128 + signal, or -1 for a lost job."""
    match ending:
        case Exited(code):
            return code
        case Signaled(number):
            return 128 + number
        case Lost():
            return -1


class Cause(StrEnum):
    """Why the main process ended the way it did."""

    NONE = "none"
    STOPPED = "stopped"
    TIMED_OUT = "timed out"
    OOM_KILLED = "OOM killed"


@dataclass(frozen=True, slots=True)
class End:
    """The whole truth about a job that is over.

    ``output`` is the exact size of each channel in bytes, ``ended_at`` seconds since 1970.
    """

    ending: Ending
    cause: Cause
    oom_kills: int
    output: Mapping[Channel, int]
    ended_at: float
