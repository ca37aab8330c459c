"""A ProcessSpawner with one small process for each job, the shim, which outlives the server.

It cannot place a job in cgroups, and so cannot find processes that leave the job's process group.
"""

import asyncio
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker.core import (
    DEFAULT_PATH,
    AppendedFile,
    Cause,
    Channel,
    End,
    Exited,
    InvalidJobSpec,
    JobId,
    JobSpec,
    JobState,
    Lost,
    Placement,
    PlacementKind,
    Progress,
    Signaled,
    Sink,
    SinkKind,
    SpawnerUnavailable,
    SpawnFailed,
    Survivor,
    job_ids_among,
)


class ShimProcess:
    """A job with a shim. What outlives the server is in its directory.

    job      what to execute, for the shim
    events   FIFO: the shim reports the start; end of file: the shim has ended
    orders   FIFO: the shim takes stop requests from it
    started  pid and start time
    end      how the job ended
    log      stderr of the shim
    """

    placement = Placement()

    def __init__(self, directory: Path) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.started_at = 0.0
        self.progress = Progress(JobState.RUNNING)
        self.failure: tuple[int, str] | None = None
        self.known = loop.create_future()
        self._directory = directory
        self._end: asyncio.Future[End] = loop.create_future()
        self._events = os.open(directory / "events", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        """Read what the shim reports from now on."""
        asyncio.get_running_loop().add_reader(self._events, self._read_events)
        if (self._directory / "started").exists():  # an earlier server has read the event
            self._know()
        self._read_events()  # poll(2) does not report the end of a FIFO without a writer so far

    def close(self) -> None:
        """Stop reading; the shim continues."""
        if self._events >= 0:
            asyncio.get_running_loop().remove_reader(self._events)
            os.close(self._events)
            self._events = -1

    async def stop(self, signal: int, grace: float) -> None:
        """Pass a stop request to the shim."""
        try:
            orders = os.open(self._directory / "orders", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # ENXIO: the shim has ended, and so has the job
            return
        os.write(orders, f"{signal} {grace}\n".encode())
        os.close(orders)
        if not self._end.done():
            self.progress = Progress(JobState.STOPPING)

    async def survivors(self) -> Sequence[Survivor]:
        """Return the main process if it is there."""
        with suppress(OSError):
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if not self._end.done():
                return [Survivor(self.pid, state)]
        return []

    async def wait(self) -> End:
        """Return how the job ended."""
        return await asyncio.shield(self._end)

    def _read_events(self) -> None:
        try:
            lines = os.read(self._events, 65536).splitlines()
        except BlockingIOError:
            return
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            self.failure = event.get("failed")
            self._know()
        if not lines:
            self.close()
            self._know()
            self._finish()

    def _know(self) -> None:
        """Note the start, if there was one."""
        with suppress(FileNotFoundError):
            started = json.loads((self._directory / "started").read_text())
            self.pid, self.started_at = started["pid"], started["started_at"]
        if not self.known.done():
            self.known.set_result(None)

    def _finish(self) -> None:
        try:
            end = _end_of(json.loads((self._directory / "end").read_text()))
        except FileNotFoundError:
            end = End(Lost("its shim died"), Cause.NONE, 0, {}, time.time())
            with suppress(OSError):
                if self.pid:
                    os.killpg(self.pid, 9)
        self.progress = Progress.at_end(end)
        if not self._end.done():
            self._end.set_result(end)


class ShimSpawner:
    """Starts shims, and finds those of an earlier server by their directories."""

    accepts = frozenset({PlacementKind.NONE})
    accepts_sinks = frozenset({str(SinkKind.APPENDED_FILE)})

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: dict[JobId, ShimProcess] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def parent(self) -> int:
        """Return the pid of the server, which starts the shims."""
        return os.getpid()

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> ShimProcess:
        """Start a shim, and return when it has executed the command."""
        assert placement == Placement()  # the Worker has checked the kind
        if spec.user is not None:
            raise InvalidJobSpec("user", "the spawner example-shims runs jobs as the user of the server")
        if spec.ulimits or spec.pipe_size is not None:
            raise InvalidJobSpec("ulimits and pipe size", "the spawner example-shims cannot set them")
        directory = self._directory / str(job)
        try:
            _make_directory(directory, job, spec, sinks)
            process = self._processes[job] = ShimProcess(directory)
            await asyncio.to_thread(_start_shim, directory)
        except OSError as error:
            await self.forget(job)
            raise SpawnerUnavailable(f"no shim can be started: {error}") from error
        process.listen()
        await process.known
        if process.pid:
            return process
        await self.forget(job)
        if process.failure is None:
            raise SpawnerUnavailable("the shim died before it executed the command")
        number, reason = process.failure
        raise SpawnFailed(number, reason)

    async def recover(self) -> Mapping[JobId, ShimProcess]:
        """Return all jobs with a directory, except those whose command was never executed."""
        for job in set(job_ids_among(os.listdir(self._directory))) - self._processes.keys():
            process = self._processes[job] = ShimProcess(self._directory / str(job))
            process.listen()
        for job, process in list(self._processes.items()):
            await process.known
            if not process.pid:
                await self.forget(job)
        return dict(self._processes)

    async def forget(self, job: JobId) -> None:
        """Delete the directory of a job. Idempotent."""
        await asyncio.to_thread(shutil.rmtree, self._directory / str(job), ignore_errors=True)
        process = self._processes.pop(job, None)
        if process is not None:
            process.close()

    async def close(self) -> None:
        """Stop listening; shims and jobs continue."""
        for process in self._processes.values():
            process.close()


def _make_directory(directory: Path, job: JobId, spec: JobSpec, sinks: Mapping[Channel, Sink]) -> None:
    directory.mkdir(mode=0o700)
    for name in ("events", "orders"):
        os.mkfifo(directory / name, 0o600)
    me = pwd.getpwuid(os.geteuid())
    user = {"HOME": me.pw_dir, "USER": me.pw_name, "LOGNAME": me.pw_name}
    files = {
        name: (sink.path, sink.start) for name, sink in sinks.items() if isinstance(sink, AppendedFile)
    }
    text = {
        "argv": [spec.command, *spec.args],
        "env": {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", **user, **spec.env, "WORKER_JOB_ID": str(job)},
        "cwd": spec.working_directory,
        "timeout": spec.timeout,
        "grace": spec.grace,
        "leftovers": spec.leftovers,
        "linger": spec.linger,
        "signal_all": spec.signal_all,
        "files": files,
    }
    (directory / "job").write_text(json.dumps(text))


def _start_shim(directory: Path) -> None:
    """Start a shim; returns when it has detached itself from this process."""
    command = [sys.executable, "-P", "-m", "example_adapters.shim", str(directory)]
    events = os.open(directory / "events", os.O_WRONLY | os.O_CLOEXEC)
    try:
        with (directory / "log").open("ab") as log:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=events, stderr=log, check=False)
    finally:
        os.close(events)


def _end_of(text: Mapping[str, Any]) -> End:
    kind, number = text["ending"]
    return End(
        Exited(number) if kind == "exited" else Signaled(number),
        Cause(text["cause"]),
        0,
        {Channel(channel): size for channel, size in text["output"].items()},
        text["ended_at"],
    )
