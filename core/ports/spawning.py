"""The port of processes: what a spawner starts, and what some spawners can do with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Lost,
)
from ..model.input import InputState
from ..model.job import (
    JobId,
    JobSpec,
    JobState,
)
from ..model.terminal import WindowSize
from .limiting import Placement, PlacementKind
from .output import Sink


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job, as reported by its spawner.

    ``output_trouble`` and ``paused`` are as in JobStatus.
    """

    state: JobState
    ending: Ending | None = None
    cause: Cause = Cause.NONE
    output_trouble: str = ""
    paused: bool = False

    @classmethod
    def at_end(cls, end: End) -> "Progress":
        """Return the progress of a finished job."""
        state = JobState.LOST if isinstance(end.ending, Lost) else JobState.EXITED
        return cls(state, end.ending, end.cause)


@dataclass(frozen=True, slots=True)
class Survivor:
    """A process of a job that has not ended: its pid and its state letter (proc(5))."""

    pid: int
    state: str


class Process(Protocol):
    """A job that runs, or has ended and is not yet forgotten."""

    @property
    def pid(self) -> int:
        """The pid of the main process."""
        ...

    @property
    def started_at(self) -> float:
        """The time of the exec in seconds since 1970."""
        ...

    @property
    def placement(self) -> Placement:
        """The placement that it was spawned with."""
        ...

    @property
    def progress(self) -> Progress:
        """The current progress, without a round trip."""
        ...

    async def stop(self, signal: int, grace: float) -> None:
        """End every process of the job; a second stop joins the first.

        The main process gets the signal first and the others later (core/termination.py); SIGKILL follows
        after ``grace`` s. Returns when the request is accepted; ``wait`` returns the end.
        """
        ...

    async def survivors(self) -> Sequence[Survivor]:
        """Return the processes of the job that have not ended."""
        ...

    async def wait(self) -> End:
        """Return the end, once no process remains and the output is complete.

        Supports any number of concurrent waiters; safe to cancel.
        """
        ...


class SignalableProcess(Process, Protocol):
    """A Process of which single processes can be signalled: an optional capability of a spawner."""

    async def stop(self, signal: int, grace: float, *, signal_all: bool = False) -> None:
        """As in Process; ``signal_all``: signal every process at once."""
        ...

    async def signal(self, number: int, *, all_processes: bool = False) -> None:
        """Send a signal to the main process, or to all, and do nothing else; never twice.

        Raises ActionRefused if that is not permitted.
        """
        ...


class PausableProcess(Process, Protocol):
    """A Process that can be frozen: an optional capability of a spawner.

    ``Progress.paused`` shows it. A stop and the timeout thaw it; the timeout counts meanwhile.
    """

    async def pause(self) -> None:
        """Freeze every process of the job; idempotent.

        Raises ActionRefused if the host cannot, or if the processes are being ended.
        """
        ...

    async def resume(self) -> None:
        """Thaw every process of the job; idempotent."""
        ...


class InteractiveProcess(Process, Protocol):
    """A Process that can pass bytes to its stdin: an optional capability of a spawner.

    For jobs whose spec has ``stdin``. Accepted bytes reach the job once and in order, whether or not the
    Worker is still there. Every method may be repeated.
    """

    async def input(self) -> InputState:
        """Return how much was accepted so far, also by an earlier Worker."""
        ...

    async def set_input_writer(self, writer: str) -> None:
        """Record who writes from now on: InputState.writer has this text, also for a later Worker."""
        ...

    async def write_input(self, offset: int, data: bytes) -> InputState:
        """Accept the bytes from ``offset`` on, without those that were accepted before.

        Waits while too many bytes wait to be read by the job; once the job reads no more, they are
        discarded. Raises InputMisplaced if there is a gap before ``offset``, or if the input has ended
        before the last of the bytes.
        """
        ...

    async def end_input(self, offset: int) -> InputState:
        """End the input: after ``offset`` bytes the job reads the end of the file.

        Raises InputMisplaced unless exactly this many bytes were accepted.
        """
        ...


class TerminalProcess(Process, Protocol):
    """A Process that may have a terminal: an optional capability of a spawner."""

    async def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal, of a job whose spec has one; the kernel sends SIGWINCH."""
        ...


class ProcessSpawner(Protocol):
    """Starts, stops and watches processes, also while no Worker is running.

    It enforces no limit: the limiter does, by the placement. Without cgroups it cannot guarantee that no
    process of an ended job is left, and counts no OOM kills. It cannot keep output after the job: the store
    does, and only a sink that does not depend on the Worker (not IN_PROCESS) receives all of it.
    """

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        """The kinds of placement that it supports."""
        ...

    @property
    def accepts_sinks(self) -> frozenset[str]:
        """The kinds of sink that it writes to: of SinkKind, or of its own."""
        ...

    async def parent(self) -> int:
        """Return the pid of the parent process of all jobs.

        If it is in a delegated cgroup, the jobs can be placed below that.
        """
        ...

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Execute the command inside its placement, with its output connected to the sinks.

        Raises SpawnFailed, and InvalidJobSpec for what the spawner cannot apply, such as ``user`` or
        ``ulimits``; no instruction of the command has run then.
        """
        ...

    async def recover(self) -> Mapping[JobId, Process]:
        """Return all jobs that run, or have ended and are not yet forgotten."""
        ...

    async def forget(self, job: JobId) -> None:
        """Delete the state of a job whose end is journaled. Idempotent."""
        ...

    async def close(self) -> None:
        """Disconnect; jobs keep running."""
        ...


class SecretSpawner(ProcessSpawner, Protocol):
    """A ProcessSpawner that can pass secrets to jobs: an optional capability."""

    async def spawn_with_secrets(
        self,
        job: JobId,
        spec: JobSpec,
        placement: Placement,
        sinks: Mapping[Channel, Sink],
        secrets: Mapping[str, bytes],
    ) -> Process:
        """As ``spawn``; the job finds a file for each secret in the directory CREDENTIALS_DIRECTORY.

        Only the user of the job can read the files. They are on no disk, and are deleted at the end of the
        job. The spawner records and logs no secret. Raises ActionRefused if the host cannot do this.
        """
        ...


class BoundingSpawner(ProcessSpawner, Protocol):
    """A ProcessSpawner that can bound the output of all running jobs: an optional capability.

    ``Progress.output_trouble`` shows of which jobs the output waits.
    """

    async def bound_output(self, most: int | None, on_reached: Callable[[], None]) -> None:
        """Let what is kept of the output of running jobs take about ``most`` bytes; None: any number.

        A job that writes more waits until its output has room again. ``on_reached`` is called when one
        begins to wait. The last output of a job whose processes have ended never waits. Holds until the
        next call, also while no Worker runs.
        """
        ...
