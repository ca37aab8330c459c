"""Clients that do not give up, and the jobs that they start, of which every trace can be checked."""

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
from worker.api.client import Client, RpcError, ServerUnreachable
from worker.core.model.ending import Exited, Lost
from worker.core.model.job import JobStatus
from worker.core.model.limits import ResourceLimits
from worker.core.model.stream_start import FromOffset

from ..integration.conftest import PATIENCE
from .restarting_installation import MARK, RestartingInstallation

FORGETFUL_KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15)
"""Whether the exit code of another process's child cannot be had: its job is lost with its supervisor."""

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
    """A job that notes down each run, writes numbered lines, and exits with a code of its own.

    ``before`` and, half-way, ``pause`` are further commands of the shell.
    """

    name: str
    code: int
    lines: int = 200
    before: str = ":"
    pause: str = ":"

    def spec(self, operated: RestartingInstallation) -> JobSpec:
        """Return what has to be started."""
        script = RUN.format(
            name=self.name,
            runs=operated.runs,
            before=self.before,
            lines=self.lines,
            half=self.lines // 2,
            pause=self.pause,
            code=self.code,
        )
        return JobSpec("sh", ["-c", script], env={MARK: str(operated.home)})

    @property
    def output(self) -> bytes:
        """What it writes."""
        return b"".join(f"{self.name} {number}\n".encode() for number in range(self.lines))


@dataclass
class Persistent:
    """A client that tries again for as long as the server is away."""

    client: Client

    async def start(self, spec: JobSpec, request_id: str) -> str:
        """Start a job once, however often that has to be said."""
        return str(await self._insist(lambda: self.client.start(spec, request_id=request_id)))

    async def wait(self, job: str) -> JobStatus:
        """Return how a job ended."""
        return await self._insist(lambda: self.client.wait(job))

    async def list(self) -> Sequence[JobStatus]:
        """Return all jobs."""
        return await self._insist(self.client.list)

    async def update(self, job: str, changes: ResourceLimits) -> None:
        """Change limits of a job."""
        await self._insist(lambda: self.client.update(job, changes))

    async def stop(self, job: str) -> None:
        """End a job; it may have ended since an earlier try."""
        try:
            await self._insist(lambda: self.client.stop(job))
        except RpcError as error:
            if error.code != "FailedPrecondition":
                raise

    async def remove(self, job: str) -> None:
        """Remove a job; an earlier try may have done it, and only its answer was lost."""
        try:
            await self._insist(lambda: self.client.remove(job))
        except RpcError as error:
            if error.code != "NotFound":
                raise

    async def stream(self, job: str) -> bytes:
        """Return all output, resumed by offset wherever the stream broke off."""
        output = bytearray()

        async def read_on() -> None:
            async with aclosing(self.client.stream(job, start=FromOffset(len(output)))) as chunks:
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
async def persistent(operated: RestartingInstallation) -> AsyncIterator[Persistent]:
    """Connect, once there is something to connect to."""
    async with operated.installation.client() as client:
        yield Persistent(client)


@dataclass
class Outcome:
    """What has become of an errand."""

    job: str
    status: JobStatus
    output: bytes


@dataclass
class Ledger:
    """What was asked for, and what came of it; ``check`` holds the one against the other."""

    operated: RestartingInstallation
    outcomes: dict[CheckedJob, Outcome] = field(default_factory=dict)
    requests: str = field(default_factory=lambda: str(uuid4()))  # they are remembered beyond their jobs

    async def do_all(
        self, errands: Collection[CheckedJob], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Do errands at once, and something else when all of them are started."""
        async with persistent(self.operated) as client:
            jobs = await asyncio.gather(*(self.start(errand, client) for errand in errands))
            meanwhile()
            pairs = zip(errands, jobs, strict=True)
            await asyncio.gather(*(self.finish(errand, job, client) for errand, job in pairs))

    async def start(self, errand: CheckedJob, client: Persistent) -> str:
        """Start an errand."""
        return await client.start(errand.spec(self.operated), f"{self.requests} {errand.name}")

    async def finish(self, errand: CheckedJob, job: str, client: Persistent) -> None:
        """Follow an errand to its end, ask for it a second time, and have it removed."""
        output = await client.stream(job)
        status = await client.wait(job)
        assert job == await self.start(errand, client)
        await client.remove(job)
        self.outcomes[errand] = Outcome(job, status, output)

    def check(self, *, may_be_lost: Collection[str] = (), may_be_cut: bool = False) -> None:
        """Every errand ran once, each line is there once, each code is right.

        With ``may_be_lost`` an ending may be lost for such a reason, with ``may_be_cut`` the last
        lines of an output.
        """
        runs = self.operated.runs.read_text().split() if self.outcomes else []
        wrong = Counter(runs)
        wrong.subtract(errand.name for errand in self.outcomes)
        excess = {name: times for name, times in wrong.items() if times}
        assert {} == excess, [outcome for errand, outcome in self.outcomes.items() if errand.name in excess]
        for errand, outcome in self.outcomes.items():
            ending = outcome.status.ending
            kept = errand.output[: len(outcome.output)] if may_be_cut else errand.output
            assert kept == outcome.output, (errand, outcome.job, ending, len(outcome.output))
            if isinstance(ending, Lost) and (ending.reason in may_be_lost or FORGETFUL_KERNEL):
                continue
            assert (JobState.EXITED, Exited(errand.code)) == (outcome.status.state, ending), (
                errand,
                outcome,
            )

    @property
    def lost(self) -> list[str]:
        """Why endings are not known, for each that is not."""
        endings = (outcome.status.ending for outcome in self.outcomes.values())
        return [ending.reason for ending in endings if isinstance(ending, Lost)]
