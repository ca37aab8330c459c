"""A state directory, and servers of any generation that use it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from worker import JobId, JobSpec
from worker.core.engine.capabilities import interactive
from worker.core.model.ending import Channel, End
from worker.core.model.job import new_job_id
from worker.core.model.terminal import WindowSize
from worker.core.ports import InteractiveProcess, Placement, Process
from worker.linux.kernel.locks import holder_of
from worker.linux.output.store import RecorderStore
from worker.linux.spawner.spawner import SupervisorSpawner
from worker.linux.state.layout import Layout

from .followed import Until


class Machine:
    """A state directory, and servers of any generation, one after the other."""

    def __init__(self, home: Path, until: Until) -> None:
        self.home = home
        self.layout = Layout(home)
        self.until = until

    @asynccontextmanager
    async def server(self, generation: str | None = None) -> AsyncIterator["Server"]:
        """Act as a server of that generation; None: of the current one."""
        spawner, outputs = SupervisorSpawner(self.home, generation=generation), RecorderStore(self.home)
        try:
            yield Server(spawner, outputs, await spawner.recover())
        finally:
            await spawner.close()
            await outputs.close()

    def generations(self) -> dict[str, int]:
        """Return the running supervisors by generation."""
        locks = self.layout.supervisor.rglob("lock")
        return {lock.parent.name: holder for lock in locks if (holder := holder_of(lock))}

    def helper(self, name: str) -> int:
        """Return the pid of the only recorder or zygote, 0 if there is none."""
        (lock,) = self.layout.supervisor.rglob(f"{name}.lock")
        return holder_of(lock)

    def kill(self, names: str) -> None:
        """Kill these processes, once they run; a zygote only if there is one now."""
        for name in names.split():
            if name == "supervisor":
                (pid,) = self.await_supervisors(1).values()
            else:
                if name == "recorder":
                    self.until(lambda: self.helper("recorder") > 0)
                pid = self.helper(name)
            if pid:
                os.kill(pid, signal.SIGKILL)

    def await_supervisors(self, count: int) -> dict[str, int]:
        """Wait until this many run, and return them."""
        self.until(lambda: len(self.generations()) == count)
        return self.generations()


class Server:
    """A server without its API: a spawner, an output store, and the jobs found at the start."""

    def __init__(
        self, spawner: SupervisorSpawner, outputs: RecorderStore, found: dict[JobId, Process]
    ) -> None:
        self.spawner = spawner
        self.outputs = outputs
        self.found = found

    async def start(
        self,
        *command: str,
        grace: float = 10.0,
        timeout: float | None = None,
        placement: Placement | None = None,
        stdin: bool = False,
        user: str | None = None,
        terminal: WindowSize | None = None,
    ) -> JobId:
        """Start a job."""
        job = new_job_id()
        spec = JobSpec(
            command[0],
            command[1:],
            grace=grace,
            timeout=timeout,
            stdin=stdin,
            user=user,
            terminal=terminal,
        )
        sinks = await self.outputs.create(job, spec.channels)
        self.found[job] = await self.spawner.spawn(job, spec, placement or Placement(), sinks)
        return job

    def input_of(self, job: JobId) -> InteractiveProcess:
        """Return a job as one that input can be written to."""
        return interactive(self.found[job])

    async def end(self, job: JobId) -> End:
        """Wait for the end of a job, and forget it."""
        end = await asyncio.wait_for(self.found[job].wait(), 60)
        await self.spawner.forget(job)
        return end

    async def output(self, job: JobId) -> bytes:
        """Return the output of a job so far."""
        return await self.outputs.read(job, Channel.OUTPUT, 0, 65520)
