"""A ProcessSpawner whose processes are made up, driven by the real state machine."""

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from ..engine.defaults import SystemClock
from ..errors import SpawnFailed
from ..lifecycle import (
    Action,
    Drain,
    Event,
    Finish,
    GroupEmptied,
    Kill,
    Lifecycle,
    MainEnded,
    OutputDrained,
    SendSignal,
    Started,
    StopRequested,
    TimePassed,
)
from ..model.ending import (
    Channel,
    End,
    Exited,
    Signaled,
)
from ..model.job import JobId, JobSpec
from ..ports import (
    Clock,
    Placement,
    PlacementKind,
    Process,
    Progress,
    Sink,
    SinkKind,
    Survivor,
)
from .memory_outputs import MemorySink


@dataclass(frozen=True, slots=True)
class FakeProgram:
    """What a command does: writes, lasts ``seconds``, exits.

    ``child_seconds`` is how much longer a child lasts that it leaves behind. One that is
    ``unkillable`` stays in state D whatever happens, until FakeSpawner.kill.
    """

    output: bytes = b""
    errors: bytes = b""
    seconds: float = 0.0
    exit_code: int = 0
    child_seconds: float = 0.0
    ignores_sigterm: bool = False
    unkillable: bool = False


Programs = Mapping[str, Callable[[Sequence[str]], FakeProgram]]

PROGRAMS: Programs = {
    "true": lambda _: FakeProgram(),
    "false": lambda _: FakeProgram(exit_code=1),
    "echo": lambda args: FakeProgram(output=" ".join(args).encode() + b"\n"),
    "ls": lambda _: FakeProgram(output=b"bin\netc\nhome\nusr\nvar\n"),
    "sleep": lambda args: FakeProgram(seconds=float(args[0])),
}


class FakeProcess:
    """A made-up process: its state machine, and the timers that stand for the kernel."""

    def __init__(
        self,
        pid: int,
        program: FakeProgram,
        spec: JobSpec,
        placement: Placement,
        sinks: Mapping[Channel, MemorySink],
        clock: Clock,
    ) -> None:
        self.pid = pid
        self.placement = placement
        self.started_at = clock.now()
        self._program = program
        self._sinks = sinks
        self._clock = clock
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._output_trouble = ""
        self._draining = False
        self._life = Lifecycle(timeout=spec.timeout, grace=spec.grace, leftovers=spec.leftovers)
        self._alarm: asyncio.Task[None] | None = None
        self._handle(Started())
        self._run = asyncio.create_task(self._run_program())

    @property
    def progress(self) -> Progress:
        """What is known at this moment."""
        return Progress(self._life.state, self._life.ending, self._life.cause, self._output_trouble)

    async def stop(self, signal: int, grace: float) -> None:
        """Ask for the end of every process of the job."""
        if not self._end.done():
            self._handle(StopRequested(signal, grace))

    async def survivors(self) -> Sequence[Survivor]:
        """Return the main process while it is there."""
        if self._life.ending is None:
            return [Survivor(self.pid, "D" if self._program.unkillable else "S")]
        return []

    async def wait(self) -> End:
        """Return how it ended."""
        return await asyncio.shield(self._end)

    def die(self, number: int) -> None:
        """End every process at once by a signal, as the kernel does."""
        self._run.cancel()
        if self._life.ending is None:
            self._handle(MainEnded(Signaled(number)))
        if not self._end.done():
            self._handle(GroupEmptied())

    def trouble(self, reason: str) -> None:
        """Have the output not recorded for this reason; empty: it is again."""
        self._output_trouble = reason
        self._drain()

    async def _run_program(self) -> None:
        self._write(Channel.STDOUT, self._program.output)
        self._write(Channel.STDERR, self._program.errors)
        await self._clock.sleep(self._program.seconds)
        self._handle(MainEnded(Exited(self._program.exit_code)))
        if self._program.child_seconds:
            await self._clock.sleep(self._program.child_seconds)
        if not self._end.done():
            self._handle(GroupEmptied())

    def _write(self, channel: Channel, data: bytes) -> None:
        sink = self._sinks.get(channel) or self._sinks[Channel.OUTPUT]
        if data:
            sink.write(data)

    def _handle(self, event: Event) -> None:
        for action in self._life.handle(event, self._clock.boottime()):
            self._carry_out(action)
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        if self._life.deadline is not None and not self._end.done():
            self._alarm = asyncio.create_task(self._ring(self._life.deadline))

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendSignal(number):
                if not self._program.ignores_sigterm and not self._program.unkillable:
                    asyncio.get_running_loop().call_soon(self.die, number)
            case Kill():
                if not self._program.unkillable:
                    asyncio.get_running_loop().call_soon(self.die, signal.SIGKILL)
            case Drain():
                self._draining = True
                self._drain()
            case Finish(end):
                self._end.set_result(end)

    def _drain(self) -> None:
        if self._draining and not self._output_trouble:
            self._draining = False
            sizes = {channel: sink.size for channel, sink in self._sinks.items()}
            self._handle(OutputDrained(sizes, self._clock.now()))

    async def _ring(self, deadline: float) -> None:
        await self._clock.sleep(deadline - self._clock.boottime())
        self._alarm = None
        self._handle(TimePassed())


class FakeSpawner:
    """Runs made-up programs; they outlive the Worker, as real ones do, until ``forget``.

    ``clock`` should be the Worker's. ``programs`` replaces the built-in true, false, echo, ls and sleep.
    """

    def __init__(self, *, programs: Programs = PROGRAMS, clock: Clock | None = None) -> None:
        self._programs = programs
        self._clock = clock or SystemClock()
        self._processes: dict[JobId, FakeProcess] = {}
        self._pids = count(1000)

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        """Every kind: nothing is really placed."""
        return frozenset(PlacementKind)

    @property
    def accepts_sinks(self) -> frozenset[SinkKind]:
        """Sinks of a MemoryOutputStore."""
        return frozenset({SinkKind.MEMORY})

    async def parent(self) -> int:
        """Return the pid of this very process."""
        return os.getpid()

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Run a made-up program; SpawnFailed with ENOENT if there is none of that name."""
        program = self._programs.get(spec.command)
        if program is None:
            raise SpawnFailed(errno.ENOENT, f"{spec.command}: {os.strerror(errno.ENOENT)}")
        memory = {channel: sink for channel, sink in sinks.items() if isinstance(sink, MemorySink)}
        process = FakeProcess(next(self._pids), program(spec.args), spec, placement, memory, self._clock)
        self._processes[job] = process
        return process

    async def recover(self) -> Mapping[JobId, Process]:
        """Return what runs, and what has ended and is not forgotten."""
        return dict(self._processes)

    async def forget(self, job: JobId) -> None:
        """Drop what is kept about a job. Idempotent."""
        self._processes.pop(job, None)

    async def close(self) -> None:
        """Keep the processes running."""

    def trouble(self, job: JobId, reason: str) -> None:
        """Have a job's output not recorded for this reason, and so not complete; empty: it is again."""
        self._processes[job].trouble(reason)

    def kill(self, job: JobId, number: int = signal.SIGKILL) -> None:
        """End a job's processes by a signal from nowhere."""
        self._processes[job].die(number)
