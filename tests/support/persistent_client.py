"""Clients that retry until a server answers, and jobs whose runs, output and exit codes are checked."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

from worker import JobSpec, JobState
from worker.client.client import Client
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.model.ending import Exited, Lost
from worker.core.model.job import JobStatus
from worker.core.model.limits import ResourceLimits
from worker.core.model.stream_start import FromOffset

from .restarting_installation import MARK, RestartingInstallation
from .waiting import PATIENCE

FORGETFUL_KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15)
"""Whether the kernel does not keep the exit code of another process's child: its job is then LOST."""

_T = TypeVar("_T")

RUN = """
echo {name} >> {runs}
{before}
n=0
while [ $n -lt {lines} ]; do
  echo {name} $n
  n=$((n+1))
  [ $n -ne {half} ] || {pause}
done
exit {code}
"""


@dataclass(frozen=True)
class CheckedJob:
    """A job that logs each run to a file, writes numbered lines, and exits with its own code.

    ``before`` and, half-way, ``pause`` are further commands of the shell.
    """

    name: str
    code: int
    lines: int = 200
    before: str = ":"
    pause: str = ":"

    def spec(self, restarting: RestartingInstallation) -> JobSpec:
        """Return the specification of the job."""
        script = RUN.format(
            name=self.name,
            runs=restarting.runs,
            before=self.before,
            lines=self.lines,
            half=self.lines // 2,
            pause=self.pause,
            code=self.code,
        )
        return JobSpec("sh", ["-c", script], env={MARK: str(restarting.home)})

    @property
    def output(self) -> bytes:
        """The output of the job."""
        return b"".join(f"{self.name} {number}\n".encode() for number in range(self.lines))


@dataclass
class Persistent:
    """A client that retries while no server answers."""

    client: Client

    async def start(self, spec: JobSpec, request_id: str) -> str:
        """Start a job once, however often the request is repeated."""
        return str(await self._insist(lambda: self.client.start(spec, request_id=request_id)))

    async def wait(self, job: str) -> JobStatus:
        """Return the status of a job after its end."""
        return await self._insist(lambda: Job(self.client, job).wait())

    async def list(self) -> Sequence[JobStatus]:
        """Return all jobs."""
        return await self._insist(self.client.list)

    async def update(self, job: str, changes: ResourceLimits) -> None:
        """Change limits of a job."""
        await self._insist(lambda: Job(self.client, job).update(changes))

    async def stop(self, job: str) -> None:
        """Stop a job; it may have ended since an earlier attempt."""
        try:
            await self._insist(lambda: Job(self.client, job).stop())
        except RpcError as error:
            if error.code != "FailedPrecondition":
                raise

    async def remove(self, job: str) -> None:
        """Remove a job; an earlier attempt may have succeeded, with only its answer lost."""
        try:
            await self._insist(lambda: Job(self.client, job).remove())
        except RpcError as error:
            if error.code != "NotFound":
                raise

    async def stream(self, job: str) -> bytes:
        """Return all output; an interrupted stream is resumed by offset."""
        output = bytearray()

        async def read_on() -> None:
            async with aclosing(Job(self.client, job).stream(start=FromOffset(len(output)))) as chunks:
                async for chunk in chunks:
                    assert len(output) == chunk.offset
                    output.extend(chunk.data)

        await self._insist(read_on)
        return bytes(output)

    async def _insist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await call()
            except ServerUnreachable:
                if time.monotonic() > deadline:
                    raise
            except RpcError as error:
                if error.code != "Unavailable" or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(random.uniform(0.01, 0.1))  # not all clients at once


@asynccontextmanager
async def persistent(restarting: RestartingInstallation) -> AsyncIterator[Persistent]:
    """Return a client of this installation."""
    async with restarting.installation.client() as client:
        yield Persistent(client)


@dataclass
class Outcome:
    """The result of a checked job."""

    job: str
    status: JobStatus
    output: bytes


@dataclass
class Ledger:
    """The requested jobs and their results; ``check`` compares them."""

    installation: RestartingInstallation
    outcomes: dict[CheckedJob, Outcome] = field(default_factory=dict)
    requests: str = field(default_factory=lambda: str(uuid4()))  # request ids outlive their jobs

    async def do_all(
        self, checked_jobs: Collection[CheckedJob], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Run jobs concurrently, and call ``meanwhile`` once all of them are started."""
        async with persistent(self.installation) as client:
            jobs = await asyncio.gather(*(self.start(checked_job, client) for checked_job in checked_jobs))
            meanwhile()
            pairs = zip(checked_jobs, jobs, strict=True)
            await asyncio.gather(*(self.finish(checked_job, job, client) for checked_job, job in pairs))

    async def start(self, checked_job: CheckedJob, client: Persistent) -> str:
        """Start a job."""
        return await client.start(
            checked_job.spec(self.installation), f"{self.requests} {checked_job.name}"
        )

    async def finish(self, checked_job: CheckedJob, job: str, client: Persistent) -> None:
        """Follow a job to its end, repeat its start request, and remove it."""
        output = await client.stream(job)
        status = await client.wait(job)
        assert job == await self.start(checked_job, client)
        await client.remove(job)
        self.outcomes[checked_job] = Outcome(job, status, output)

    def check(self, *, may_be_lost: Collection[str] = (), may_be_cut: bool = False) -> None:
        """Every job ran once, each line was written once, each exit code is right.

        An ending may be lost for a reason in ``may_be_lost``; with ``may_be_cut`` the last lines of an
        output may be missing.
        """
        runs = self.installation.runs.read_text().split() if self.outcomes else []
        wrong = Counter(runs)
        wrong.subtract(checked_job.name for checked_job in self.outcomes)
        excess = {name: times for name, times in wrong.items() if times}
        assert {} == excess, [
            outcome for checked_job, outcome in self.outcomes.items() if checked_job.name in excess
        ]
        for checked_job, outcome in self.outcomes.items():
            ending = outcome.status.ending
            kept = checked_job.output[: len(outcome.output)] if may_be_cut else checked_job.output
            assert kept == outcome.output, (checked_job, outcome.job, ending, len(outcome.output))
            if isinstance(ending, Lost) and (ending.reason in may_be_lost or FORGETFUL_KERNEL):
                continue
            assert (JobState.EXITED, Exited(checked_job.code)) == (outcome.status.state, ending), (
                checked_job,
                outcome,
            )

    @property
    def lost(self) -> list[str]:
        """The reasons of all endings that are lost."""
        endings = (outcome.status.ending for outcome in self.outcomes.values())
        return [ending.reason for ending in endings if isinstance(ending, Lost)]
