"""Values that describe a job: spec, state, record, status."""

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NewType
from uuid import UUID, uuid4

from ..errors import InvalidJobSpec, JobNotFound
from .client_id import ClientId
from .ending import (
    Cause,
    Channel,
    End,
    Ending,
    Lost,
)
from .execution import Execution
from .job_name import check_job_name
from .limits import ResourceLimits, ResourceUsage
from .terminal import WindowSize
from .ulimits import Ulimit, check_ulimits

JobId = NewType("JobId", UUID)

DEFAULT_GRACE = 10.0
DEFAULT_LINGER = 1.0
LONGEST_DURATION = 10 * 365 * 86400.0
"""Maximum of a timeout, a grace period or a linger in seconds."""

SMALLEST_OUTPUT = 256 << 10
"""Minimum of ``output_max`` in bytes: two full pipes for each of two channels (pipe(7))."""

LARGEST_OUTPUT = 1 << 62
"""Maximum of ``output_max``, and bound of an offset, in bytes: off_t has 63 bits."""

SMALLEST_PIPE = 4096
LARGEST_PIPE = 1 << 30
"""Bounds of ``pipe_size`` in bytes: a page, and what F_SETPIPE_SZ of fcntl(2) can round up."""


def new_job_id() -> JobId:
    """Return a new, unique job id."""
    return JobId(uuid4())


def parse_job_id(text: str) -> JobId:
    """Parse a job id; raise JobNotFound if the text is not a canonical UUID."""
    try:
        parsed = UUID(text)
    except ValueError:
        raise JobNotFound(text) from None
    if str(parsed) != text.lower():  # UUID() also accepts braces, urn: and missing hyphens
        raise JobNotFound(text)
    return JobId(parsed)


def job_ids_among(names: Iterable[str]) -> Iterator[JobId]:
    """Yield the names of directory entries that are job ids in our spelling; ignore all others."""
    for name in names:
        with suppress(JobNotFound):
            job = parse_job_id(name)
            if str(job) == name:
                yield job


class Leftovers(StrEnum):
    """What happens to processes that outlive the main process."""

    KILL = "kill"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A command and its environment, as requested.

    ``timeout``, ``grace`` and ``linger`` are in seconds; ``user`` None is the worker's own user.
    ``linger`` is the time that leftovers have to end by themselves before they get SIGTERM.
    ``signal_all``: a stop signals every process at once, not the main process first. ``output_max`` is
    the number of bytes of output to keep, of all channels together, discarding the oldest; 0 keeps all,
    None applies the default of the Worker. ``new_privileges`` lets set-user-ID programs give privileges
    to the job although the worker changed its user (prctl(2), PR_SET_NO_NEW_PRIVS). ``pipe_size`` is
    how many bytes of output of a channel may wait to be recorded; None is the kernel's default. ``stdin``:
    the job reads what clients write to it; otherwise its stdin is /dev/null. ``terminal``: the job has a
    controlling terminal of this size as its stdin, stdout and stderr. ``name`` (job_name.py) belongs to one
    running job of its owner at a time; empty: no name. ``execution`` is None in a request: the command is
    then looked up in the job's PATH. Raises InvalidJobSpec, which names the field, for a
    spec that the kernel can never run.
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
    ulimits: Sequence[Ulimit] = ()
    new_privileges: bool = False
    pipe_size: int | None = None
    linger: float = DEFAULT_LINGER
    signal_all: bool = False
    stdin: bool = False
    terminal: WindowSize | None = None
    name: str = ""
    execution: Execution | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", tuple(self.args))
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        object.__setattr__(self, "ulimits", tuple(self.ulimits))
        self._check_text()
        check_job_name(self.name)
        if not self.command:
            raise InvalidJobSpec("command", "is empty")
        if not self.working_directory.startswith("/"):
            raise InvalidJobSpec("working directory", f"{self.working_directory!r} is not an absolute path")
        for name in self.env:
            if not name or "=" in name:
                raise InvalidJobSpec("env", f"{name!r} is not a valid name of a variable")
        if self.timeout is not None and not 0 < self.timeout <= LONGEST_DURATION:
            raise InvalidJobSpec("timeout", f"{self.timeout:g} s; must be above 0, at most 10 years")
        for name, seconds in (("grace", self.grace), ("linger", self.linger)):
            if not 0 <= seconds <= LONGEST_DURATION:
                raise InvalidJobSpec(name, f"{seconds:g} s; must be 0 or more, at most 10 years")
        self._check_streams()
        check_ulimits(self.ulimits)

    def _check_streams(self) -> None:
        if self.output_max is not None:
            check_output_max(self.output_max)
        if self.pipe_size is not None and not SMALLEST_PIPE <= self.pipe_size <= LARGEST_PIPE:
            raise InvalidJobSpec("pipe size", f"{self.pipe_size} bytes; must be 4K to 1G")
        if self.terminal is not None and self.split_output:
            raise InvalidJobSpec("terminal", "stdout and stderr of a terminal cannot be separate")

    def _check_text(self) -> None:
        """Reject text that execve(2) cannot take: NUL bytes and lone surrogates."""
        named = (*self.env, *self.env.values(), *self.labels, *self.labels.values())
        all_text = "".join((self.command, self.working_directory, self.user or "", *self.args, *named))
        if all_text.isascii() and "\0" not in all_text:
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
    def effective_linger(self) -> float:
        """The linger; none with a terminal, which the kernel takes from leftovers when its session ends."""
        return self.linger if self.terminal is None else 0.0

    @property
    def stop_signal(self) -> int:
        """The first signal of a stop; with a terminal SIGHUP, since interactive shells ignore SIGTERM."""
        return signal.SIGTERM if self.terminal is None else signal.SIGHUP

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of output of the job."""
        if self.split_output:
            return (Channel.STDOUT, Channel.STDERR)
        return (Channel.OUTPUT,)


def check_output_max(size: int) -> None:
    """Raise InvalidJobSpec if ``output_max`` is out of range."""
    if size and not SMALLEST_OUTPUT <= size <= LARGEST_OUTPUT:
        least = SMALLEST_OUTPUT >> 10
        raise InvalidJobSpec("output max", f"{size} bytes; must be {least}K or more, or 0 to keep all")


class JobState(StrEnum):
    """The state of a job in its life cycle."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    LOST = "lost"

    @property
    def over(self) -> bool:
        """Whether the state is final."""
        return self in {JobState.EXITED, JobState.LOST}


@dataclass(frozen=True, slots=True)
class Extent:
    """The kept range of a channel: from offset ``first`` up to, but not including, ``end``."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output and the offset of its first byte.

    ``time_ms`` is when it was written, in milliseconds since 1970; 0: the stream has no times.
    """

    offset: int
    data: bytes
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """The bytes from ``offset`` on, up to the next stamp, were written at this time.

    ``time_ms`` is in milliseconds since 1970.
    """

    offset: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the journal stores about a job; times in seconds since 1970.

    ``pid`` is None until the job has started, ``end`` until it has finished. ``limits`` are the limits
    in effect: those of the spec, the server, the policy and later updates combined. ``output_max``
    is the bound in effect; 0 keeps all output. ``signal_all`` is in effect by the spec or the Worker.
    ``user`` is the Worker's default user of a job that requests none. ``issuer`` is that of the owner's
    certificate; None in a record of an earlier version.
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
    signal_all: bool = False
    issuer: str | None = None
    user: str | None = None
    execution: Execution | None = None

    def belongs_to(self, client: ClientId) -> bool:
        """Whether this client has started the job; an earlier version recorded no issuer."""
        return self.owner == client.name and self.issuer in {None, client.issuer}

    @property
    def effective_user(self) -> str | None:
        """Whom the job runs as; None: the worker's own user."""
        return self.user if self.spec.user is None else self.spec.user

    @property
    def effective_spec(self) -> JobSpec:
        """The spec with what was decided besides it."""
        return replace(
            self.spec, signal_all=self.signal_all, user=self.effective_user, execution=self.execution
        )


@dataclass(frozen=True, slots=True)
class PastRequest:
    """A start request whose job was removed, with the fingerprint of its job spec.

    ``removed_at`` is in seconds since 1970. ``issuer``: as in a JobRecord.
    """

    owner: str
    request_id: str
    job: JobId
    fingerprint: str
    removed_at: float
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A snapshot of a job: its record and its current state.

    ``ending`` is set as soon as the main process has ended, even if other processes remain.
    ``output_trouble`` is the reason why output cannot be recorded now, e.g. "No space left on device";
    the job blocks on writing until the problem is solved. Empty: output is being recorded.
    ``paused``: its processes are frozen.
    """

    record: JobRecord
    state: JobState
    ending: Ending | None
    cause: Cause
    usage: ResourceUsage
    output: Mapping[Channel, Extent]
    output_trouble: str = ""
    paused: bool = False

    @property
    def oom_kills(self) -> int:
        """The number of processes of the job that the OOM killer has killed."""
        return self.record.end.oom_kills if self.record.end else 0

    @property
    def lost_reason(self) -> str:
        """Why the job is lost; empty for any other job."""
        return self.ending.reason if isinstance(self.ending, Lost) else ""
