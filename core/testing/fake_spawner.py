"""A ProcessSpawner with simulated processes, driven by the real state machine."""

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from ..engine.defaults import SystemClock
from ..errors import ActionRefused, SpawnFailed
from ..lifecycle import (
    Action,
    AllEnded,
    Drain,
    Event,
    Finish,
    Freeze,
    Kill,
    Lifecycle,
    MainEnded,
    OutputDrained,
    PauseRequested,
    ResumeRequested,
    SendSignal,
    Started,
    StopRequested,
    Thaw,
    TimePassed,
    Whom,
)
from ..model.ending import (
    Channel,
    End,
    Exited,
    Signaled,
)
from ..model.input import JOB_HAS_ENDED, InputState
from ..model.job import JobId, JobSpec
from ..model.terminal import WindowSize
from ..ports import (
    Clock,
    InProcessSink,
    Placement,
    PlacementKind,
    Process,
    Progress,
    Sink,
    SinkKind,
    Survivor,
)
from .fake_input import FakeInput


@dataclass(frozen=True, slots=True)
class FakeProgram:
    """The behaviour of a command: it writes, runs for ``seconds``, and exits.

    It leaves a child that runs for ``child_seconds`` more, whatever ended the main process. An
    ``unkillable`` program stays in state D until FakeSpawner.kill. One that ``copies_input`` writes its
    input to stdout and runs until the end of the input, if it has any.
    """

    output: bytes = b""
    errors: bytes = b""
    seconds: float = 0.0
    exit_code: int = 0
    child_seconds: float = 0.0
    ignores_sigterm: bool = False
    unkillable: bool = False
    copies_input: bool = False


_HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP}
"""Signals that do not end a fake program; SIGSTOP would stop a real one."""

Programs = Mapping[str, Callable[[Sequence[str]], FakeProgram]]

PROGRAMS: Programs = {
    "true": lambda _: FakeProgram(),
    "false": lambda _: FakeProgram(exit_code=1),
    "echo": lambda args: FakeProgram(output=" ".join(args).encode() + b"\n"),
    "cat": lambda _: FakeProgram(copies_input=True),
    "ls": lambda _: FakeProgram(output=b"bin\netc\nhome\nusr\nvar\n"),
    "sleep": lambda args: FakeProgram(seconds=float(args[0])),
}


class FakeProcess:
    """A simulated job: its state machine, and timers in place of the kernel."""

    def __init__(
        self,
        pid: int,
        program: FakeProgram,
        spec: JobSpec,
        placement: Placement,
        sinks: Mapping[Channel, InProcessSink],
        clock: Clock,
    ) -> None:
        self.pid = pid
        self.placement = placement
        self.started_at = clock.now()
        self._program = program
        self._sinks = sinks
        self._clock = clock
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.sizes = [] if spec.terminal is None else [spec.terminal]
        self._output_trouble = ""
        self._input = FakeInput(self._read)
        self._reads = program.copies_input and spec.stdin
        self._draining = False
        self._life = Lifecycle(
            timeout=spec.timeout,
            grace=spec.grace,
            leftovers=spec.leftovers,
            linger=spec.effective_linger,
            signal_all=spec.signal_all,
        )
        self._timer: asyncio.Task[None] | None = None
        self._left: list[tuple[float, Event | None]] = [
            (program.seconds, MainEnded(Exited(program.exit_code))),
            *([(program.child_seconds, None)] if program.child_seconds else []),
        ]  # how long the main process and its child run, and what follows
        self._running_since = clock.boottime()
        self._pending: list[tuple[int, Whom]] = []
        self._handle(Started())
        self._write(Channel.STDOUT, program.output)
        self._write(Channel.STDERR, program.errors)
        self._run = asyncio.create_task(self._run_programs())

    @property
    def progress(self) -> Progress:
        """The current progress."""
        life = self._life
        return Progress(life.state, life.ending, life.cause, self._output_trouble, life.paused)

    async def stop(self, signal: int, grace: float, *, signal_all: bool = False) -> None:
        """Request the stop of every process of the job."""
        if not self._end.done():
            self._handle(StopRequested(signal, grace, signal_all, self._ignored))

    async def signal(self, number: int, *, all_processes: bool = False) -> None:
        """Send a signal."""
        if not self._end.done():
            self._deliver(number, Whom.ALL if all_processes else Whom.MAIN)

    async def pause(self) -> None:
        """Freeze the program: its time stops."""
        if not self._life.pausable:
            raise ActionRefused("the job is being stopped")
        self._handle(PauseRequested())

    async def resume(self) -> None:
        """Let the program continue."""
        if not self._end.done():
            self._handle(ResumeRequested())

    async def input(self) -> InputState:
        """Return how much input was accepted."""
        return self._input.state

    async def set_input_writer(self, writer: str) -> None:
        """Record who writes from now on."""
        self._input.set_writer(writer)

    async def write_input(self, offset: int, data: bytes) -> InputState:
        """Let the program read bytes."""
        return await self._input.write(offset, data)

    async def end_input(self, offset: int) -> InputState:
        """Let the program read the end of the file."""
        return self._input.end(offset)

    async def resize(self, size: WindowSize) -> None:
        """Add the size to ``sizes``."""
        self.sizes.append(size)

    def close_input(self, reason: str = "the job has closed its stdin") -> None:
        """Close stdin, as a program that wants no more input."""
        self._input.close(reason)

    def pause_reading(self) -> None:
        """Read no input until ``resume_reading``."""
        self._input.reading.clear()

    def resume_reading(self) -> None:
        """Read input again."""
        self._input.reading.set()

    async def survivors(self) -> Sequence[Survivor]:
        """Return the main process until it has ended."""
        if self._life.ending is None:
            return [Survivor(self.pid, "D" if self._program.unkillable else "S")]
        return []

    async def wait(self) -> End:
        """Return the end of the job."""
        return await asyncio.shield(self._end)

    def kill(self, number: int) -> None:
        """End every process by a signal, as the kernel does."""
        self._run.cancel()
        self._left.clear()
        if self._life.ending is None:
            self._handle(MainEnded(Signaled(number)))
        if not self._end.done():
            self._handle(AllEnded())

    def set_output_trouble(self, reason: str) -> None:
        """Stop the recording of output for this reason; empty: resume it."""
        self._output_trouble = reason
        self._drain()

    @property
    def _ignored(self) -> frozenset[int]:
        return frozenset({signal.SIGTERM}) if self._program.ignores_sigterm else frozenset()

    async def _run_programs(self) -> None:
        while self._left:
            seconds, ended = self._left[0]
            self._running_since = self._clock.boottime()
            await self._clock.sleep(seconds)
            if self._reads and self._life.ending is None:
                await self._input.ended.wait()
            del self._left[0]
            if ended is not None:
                self._handle(ended)
        if not self._end.done():
            self._handle(AllEnded())

    def _deliver(self, number: int, whom: Whom) -> None:
        """Let processes receive a signal: now, or when they are thawed."""
        if self._life.paused and number != signal.SIGKILL:
            self._pending.append((number, whom))
        elif number not in self._ignored | _HARMLESS and not self._program.unkillable:
            asyncio.get_running_loop().call_soon(self._end_processes, number, whom)

    def _end_processes(self, number: int, whom: Whom) -> None:
        main_runs = self._life.ending is None
        if whom is Whom.ALL or (whom is Whom.OTHERS and not main_runs):
            self.kill(number)
        elif whom is Whom.OTHERS:
            del self._left[1:]
        elif main_runs:
            self._run.cancel()
            del self._left[0]
            self._handle(MainEnded(Signaled(number)))
            if self._left:
                self._run = asyncio.create_task(self._run_programs())
            elif not self._end.done():
                self._handle(AllEnded())

    def _freeze(self) -> None:
        self._run.cancel()
        if self._left:
            seconds, ended = self._left[0]
            passed = self._clock.boottime() - self._running_since
            self._left[0] = (seconds - passed, ended)

    def _thaw(self) -> None:
        self._run = asyncio.create_task(self._run_programs())
        pending, self._pending = self._pending, []
        for number, whom in pending:
            self._deliver(number, whom)

    def _read(self, data: bytes) -> None:
        if self._program.copies_input:
            self._write(Channel.STDOUT, data)

    def _write(self, channel: Channel, data: bytes) -> None:
        sink = self._sinks.get(channel) or self._sinks[Channel.OUTPUT]
        if data:
            sink.write(data)

    def _handle(self, event: Event) -> None:
        for action in self._life.handle(event, self._clock.boottime()):
            self._carry_out(action)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._life.deadline is not None and not self._end.done():
            self._timer = asyncio.create_task(self._time_out(self._life.deadline))

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendSignal(number, whom):
                self._deliver(number, whom)
            case Kill():
                self._deliver(signal.SIGKILL, Whom.ALL)
            case Freeze():
                self._freeze()
            case Thaw():
                self._thaw()
            case Drain():
                self._draining = True
                self._drain()
            case Finish(end):
                self._input.close(JOB_HAS_ENDED)
                self._end.set_result(end)

    def _drain(self) -> None:
        if self._draining and not self._output_trouble:
            self._draining = False
            sizes = {channel: sink.size for channel, sink in self._sinks.items()}
            self._handle(OutputDrained(sizes, self._clock.now()))

    async def _time_out(self, deadline: float) -> None:
        await self._clock.sleep(deadline - self._clock.boottime())
        self._timer = None
        self._handle(TimePassed(self._ignored))


class FakeSpawner:
    """Runs simulated programs; like real ones they outlive the Worker, until ``forget``.

    ``clock`` should be that of the Worker. ``programs`` replaces the built-in true, false, echo, ls and
    sleep.
    """

    executes_exactly = True

    def __init__(self, *, programs: Programs = PROGRAMS, clock: Clock | None = None) -> None:
        self._programs = programs
        self._clock = clock or SystemClock()
        self._processes: dict[JobId, FakeProcess] = {}
        self._pids = count(1000)
        self.secrets: dict[JobId, Mapping[str, bytes]] = {}

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        """Every kind: no process is really placed."""
        return frozenset(PlacementKind)

    @property
    def accepts_sinks(self) -> frozenset[SinkKind]:
        """Objects with a ``write``, as those of a MemoryOutputStore."""
        return frozenset({SinkKind.IN_PROCESS})

    async def parent(self) -> int:
        """Return the pid of this process."""
        return os.getpid()

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Run a simulated program; raise SpawnFailed with ENOENT for an unknown command."""
        program = self._programs.get(spec.command)
        if program is None:
            raise SpawnFailed(errno.ENOENT, f"{spec.command}: {os.strerror(errno.ENOENT)}")
        written = {channel: sink for channel, sink in sinks.items() if isinstance(sink, InProcessSink)}
        process = FakeProcess(next(self._pids), program(spec.args), spec, placement, written, self._clock)
        self._processes[job] = process
        return process

    async def spawn_with_secrets(
        self,
        job: JobId,
        spec: JobSpec,
        placement: Placement,
        sinks: Mapping[Channel, Sink],
        secrets: Mapping[str, bytes],
    ) -> Process:
        """As ``spawn``; ``secrets`` of the job are kept until it is forgotten."""
        process = await self.spawn(job, spec, placement, sinks)
        self.secrets[job] = secrets
        return process

    async def recover(self) -> Mapping[JobId, Process]:
        """Return all jobs that run, or have ended and are not yet forgotten."""
        return dict(self._processes)

    async def forget(self, job: JobId) -> None:
        """Delete the state of a job. Idempotent."""
        self._processes.pop(job, None)
        self.secrets.pop(job, None)

    async def close(self) -> None:
        """Keep the processes running."""

    def set_output_trouble(self, job: JobId, reason: str) -> None:
        """Stop the recording of a job's output for this reason; empty: resume it."""
        self._processes[job].set_output_trouble(reason)

    def close_input(self, job: JobId) -> None:
        """Close the stdin of a job, as a program that wants no more input."""
        self._processes[job].close_input()

    def pause_reading(self, job: JobId) -> None:
        """Let a job read no input until ``resume_reading``; writes to it wait."""
        self._processes[job].pause_reading()

    def resume_reading(self, job: JobId) -> None:
        """Let a job read its input again."""
        self._processes[job].resume_reading()

    def sizes(self, job: JobId) -> Sequence[WindowSize]:
        """Return the sizes that the terminal of a job has had, the first one from the start."""
        return self._processes[job].sizes

    def kill(self, job: JobId, number: int = signal.SIGKILL) -> None:
        """End the processes of a job by a signal that the Worker did not send."""
        self._processes[job].kill(number)
