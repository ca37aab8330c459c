"""Resource limits of processes: setrlimit(2), which docker and shells call ulimits."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidJobSpec

ULIMITS = (
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)
"""The names, as of prlimit(1) and docker: those of setrlimit(2) without RLIMIT_."""

_INFINITY = (1 << 64) - 1
"""RLIM_INFINITY, which is not a number but the absence of a limit."""


@dataclass(frozen=True, slots=True)
class Ulimit:
    """One limit, in the unit of setrlimit(2); None: unlimited."""

    name: str
    soft: int | None
    hard: int | None

    def __post_init__(self) -> None:
        if self.name not in ULIMITS:
            raise InvalidJobSpec("ulimits", f"unknown name {self.name!r}; known are {', '.join(ULIMITS)}")
        for which, value in (("soft", self.soft), ("hard", self.hard)):
            if value is not None and not 0 <= value < _INFINITY:
                raise InvalidJobSpec(
                    self.field, f"{which} limit {value}; must be 0 or more and fit 64 bits, or be unlimited"
                )
        if self.hard is not None and (self.soft is None or self.soft > self.hard):
            soft = "unlimited" if self.soft is None else self.soft
            raise InvalidJobSpec(self.field, f"soft limit {soft} is above the hard limit {self.hard}")

    @property
    def field(self) -> str:
        """The name for error messages."""
        return f"ulimits.{self.name}"

    def __str__(self) -> str:
        """Return ``nofile=1024:4096``, as an option states it."""
        return ulimit_text(self.name, self.soft, self.hard)


def ulimit_text(name: str, soft: int | None, hard: int | None) -> str:
    """Return ``nofile=1024:4096`` for a limit that need not be valid."""
    texts = ("unlimited" if value is None else value for value in (soft, hard))
    return f"{name}={':'.join(map(str, texts))}"


def check_ulimits(ulimits: Iterable[Ulimit]) -> None:
    """Raise InvalidJobSpec if one is set twice."""
    seen: set[str] = set()
    for each in ulimits:
        if each.name in seen:
            raise InvalidJobSpec(each.field, "is given twice")
        seen.add(each.name)
