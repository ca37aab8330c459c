"""A job: what was asked for, and what is known about it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NewType
from uuid import UUID, uuid4

from ..errors import InvalidJobSpec, JobNotFound
from .ending import (
    Cause,
    Channel,
    End,
    Ending,
    Lost,
)
from .limits import ResourceLimits, ResourceUsage

JobId = NewType("JobId", UUID)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_GRACE = 10.0
LONGEST = 10 * 365 * 86400.0
"""Seconds that a timeout or a grace can be."""

SMALLEST_OUTPUT = 256 << 10
"""Bytes that a bound on output can be at least: two pipes full for each of two channels (pipe(7))."""

LARGEST_OUTPUT = 1 << 62
"""Bytes that a bound on output can be at most: off_t has 63 bits."""


def new_job_id() -> JobId:
    """Return an id that no job has had."""
    return JobId(uuid4())


def parse_job_id(text: str) -> JobId:
    """Return the id written as ``text``; raise JobNotFound if no job can be called that."""
    try:
        parsed = UUID(text)
    except ValueError:
        raise JobNotFound(text) from None
    if str(parsed) != text.lower():  # UUID() also takes braces, urn: and a missing hyphen
        raise JobNotFound(text)
    return JobId(parsed)


def job_ids_among(names: Iterable[str]) -> Iterator[JobId]:
    """Yield the jobs among the names in a directory, as we write them; all others are somebody else's."""
    for name in names:
        with suppress(JobNotFound):
            job = parse_job_id(name)
            if str(job) == name:
                yield job


class Leftovers(StrEnum):
    """What happens to processes that outlive the main one."""

    KILL = "kill"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A command and the world it runs in.

    ``timeout`` and ``grace`` are in seconds; ``user`` None is the worker's own user. Of the output
    the last ``output_max`` bytes are kept, of all channels together; 0: all, None: as the Worker has it.
    Raises InvalidJobSpec, naming the field, when the kernel could never run it.
    """

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    user: str | None = None
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    grace: float = DEFAULT_GRACE
    leftovers: Leftovers = Leftovers.KILL
    split_output: bool = False
    output_max: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", tuple(self.args))
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        self._check_text()
        if not self.command:
            raise InvalidJobSpec("command", "is empty")
        if not self.working_directory.startswith("/"):
            raise InvalidJobSpec("working directory", f"{self.working_directory!r} is not an absolute path")
        for name in self.env:
            if not name or "=" in name:
                raise InvalidJobSpec("env", f"{name!r} is not the name of a variable")
        if self.timeout is not None and not 0 < self.timeout <= LONGEST:
            raise InvalidJobSpec("timeout", f"{self.timeout:g} s; must be above 0, at most 10 years")
        if not 0 <= self.grace <= LONGEST:
            raise InvalidJobSpec("grace", f"{self.grace:g} s; must be 0 or more, at most 10 years")
        if self.output_max is not None:
            check_output_max(self.output_max)

    def _check_text(self) -> None:
        """Refuse what no execve(2) takes: NUL bytes, and text that is not Unicode."""
        named = (*self.env, *self.env.values(), *self.labels, *self.labels.values())
        together = "".join((self.command, self.working_directory, self.user or "", *self.args, *named))
        if together.isascii() and "\0" not in together:
            return
        texts = [
            ("command", self.command),
            ("working directory", self.working_directory),
            ("user", self.user or ""),
            *((f"argument {number}", text) for number, text in enumerate(self.args, 1)),
            *((f"env {name}", name + value) for name, value in self.env.items()),
            *((f"label {name}", name + value) for name, value in self.labels.items()),
        ]
        for where, text in texts:
            if "\0" in text:
                raise InvalidJobSpec(where.replace("\0", "\\0"), "contains a NUL byte")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InvalidJobSpec(ascii(where), "contains a lone surrogate") from None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The streams of output that such a job has."""
        if self.split_output:
            return (Channel.STDOUT, Channel.STDERR)
        return (Channel.OUTPUT,)


def check_output_max(size: int) -> None:
    """Raise InvalidJobSpec for a bound on output that none can be."""
    if size and not SMALLEST_OUTPUT <= size <= LARGEST_OUTPUT:
        least = SMALLEST_OUTPUT >> 10
        raise InvalidJobSpec("output max", f"{size} bytes; must be {least}K or more, or 0 to keep all")


class JobState(StrEnum):
    """Where a job is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    LOST = "lost"

    @property
    def over(self) -> bool:
        """Whether nothing more can happen to the job."""
        return self in {JobState.EXITED, JobState.LOST}


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of a channel that are kept: from ``first`` up to, but without, ``end``."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some bytes of output and the offset of the first of them."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is journaled about a job; times in seconds since 1970.

    ``pid`` is None until the job has started, ``end`` until it is over. ``limits`` are those that
    hold now: what the specification asks for, the server's policy, and later updates in one;
    ``output_max`` likewise, 0: all output is kept.
    """

    id: JobId
    spec: JobSpec
    owner: str
    request_id: str
    created_at: float
    pid: int | None = None
    started_at: float | None = None
    end: End | None = None
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    usage: ResourceUsage = field(default_factory=ResourceUsage)
    warnings: tuple[str, ...] = ()
    output_max: int = 0


@dataclass(frozen=True, slots=True)
class PastRequest:
    """What is remembered of a request that started a job which is removed.

    ``fingerprint`` is that of the specification, ``removed_at`` seconds since 1970.
    """

    owner: str
    request_id: str
    job: JobId
    fingerprint: str
    removed_at: float


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A snapshot of a job: its record, and what only holds at this moment.

    ``ending`` is known as soon as the main process has ended, while others may still be left.
    ``output_trouble`` is why its output cannot be recorded just now, as "No space left on device"; the job
    blocks when it writes until that is mended. Empty: all is well.
    """

    record: JobRecord
    state: JobState
    ending: Ending | None
    cause: Cause
    usage: ResourceUsage
    output: Mapping[Channel, Extent]
    output_trouble: str = ""

    @property
    def oom_kills(self) -> int:
        """How many processes of the job the kernel has killed for want of memory."""
        return self.record.end.oom_kills if self.record.end else 0

    @property
    def lost_reason(self) -> str:
        """Why the job is lost; empty if it is not."""
        return self.ending.reason if isinstance(self.ending, Lost) else ""
