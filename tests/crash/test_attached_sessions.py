"""Kills while clients are attached: plain input is exact, keys are typed at most once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from worker import JobSpec
from worker.api.attach_messages import ChannelChunk
from worker.client.client import Client
from worker.client.job import Job
from worker.client.window import Window
from worker.core.model.ending import Channel, Exited, Signaled
from worker.core.model.stream_start import BEGINNING
from worker.core.model.terminal import WindowSize

from ..support.local_pty import on_terminal
from ..support.persistent_client import FORGETFUL_KERNEL
from ..support.restarting_installation import MARK, ROLES, RestartingInstallation
from ..support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(
    FORGETFUL_KERNEL, reason="before Linux 6.15 jobs are lost with their supervisor"
)

Until = Callable[[Callable[[], bool]], None]

# A supervisor that dies at once after its zygote takes the terminal with it.
VICTIMS = ["zygote", "recorder", "supervisor", "server"]
ROUNDS = 3

KEY = b"k%06d\n"
"""A line of 8 bytes: the recorder types 1024 bytes at once, and loses only whole lines."""


def kill(restarting: RestartingInstallation, role: str, until: Until) -> None:
    """Kill the process of this role once all of them run."""
    until(lambda: all(map(restarting.pid, ROLES)))
    until(partial(restarting.kill, role))


class Session:
    """An attachment that writes numbered lines until ``stop``, and keeps the output."""

    def __init__(self, client: Client, job: str, window: Window | None = None) -> None:
        self.output = b""
        self.written = 0
        self._events = Job(client, job).attach(
            read=self._read, output={Channel.OUTPUT: BEGINNING}, window=window
        )
        self._stopping = False
        self._grown = asyncio.Event()

    async def run(self) -> None:
        """Copy until the job has ended."""
        async for event in self._events:
            if isinstance(event, ChannelChunk):
                assert len(self.output) == event.chunk.offset
                self.output += event.chunk.data
                self._grown.set()

    async def more(self) -> None:
        """Wait until lines that are written from now on are in the output."""
        wanted = self.written
        while int(self.output.split()[-1][1:] if self.output.count(b"\n") > 1 else 0) <= wanted:
            self._grown.clear()
            await self._grown.wait()

    def stop(self) -> None:
        """Write no more."""
        self._stopping = True

    async def _read(self) -> bytes:
        await asyncio.sleep(0.001)  # as a user, who does not write all at once
        if self._stopping:
            return b""
        self.written += 1
        return KEY % self.written


@asynccontextmanager
async def attached(
    restarting: RestartingInstallation, spec: JobSpec, window: Window | None = None
) -> AsyncIterator[tuple[Session, "asyncio.Task[None]", Client, str]]:
    """Start a job, attach to it, and remove it at the end."""
    async with Client(restarting.installation.connection, patience=PATIENCE) as client:
        job = str(await client.start(spec))
        session = Session(client, job, window)
        yield session, asyncio.ensure_future(session.run()), client, job
        await Job(client, job).remove()


async def kill_all(restarting: RestartingInstallation, session: Session, until: Until) -> None:
    """Kill each process several times, each time while input and output go on."""
    for _ in range(ROUNDS):
        for role in VICTIMS:
            await session.more()
            await asyncio.to_thread(kill, restarting, role, until)
    await session.more()


async def test_plain_input_is_exact(restarting: RestartingInstallation, until: Until) -> None:
    """The job reads each byte once and in order, and each byte of its output arrives once."""
    spec = JobSpec("cat", stdin=True, env={MARK: str(restarting.home)})
    async with attached(restarting, spec) as (session, running, client, job):
        await kill_all(restarting, session, until)
        session.stop()
        await running
        assert b"".join(KEY % number for number in range(1, session.written + 1)) == session.output
        assert Exited(0) == (await Job(client, job).wait()).ending


async def test_keys_are_typed_at_most_once(restarting: RestartingInstallation, until: Until) -> None:
    """Keys are in order and never repeated; only a recorder that dies loses some; the session goes on."""
    script = "stty -icanon -echo -onlcr; exec cat"
    spec = JobSpec(
        "sh",
        ["-c", script],
        stdin=True,
        terminal=WindowSize(24, 80),
        env={MARK: str(restarting.home)},
    )
    async with attached(restarting, spec, Window(WindowSize(31, 97))) as (session, running, client, job):
        await kill_all(restarting, session, until)
        await Job(client, job).stop()
        await running
        assert isinstance((await Job(client, job).wait()).ending, Signaled)
    typed = [int(line[1:]) for line in session.output.split(b"\n")[:-1]]
    assert typed == sorted(set(typed))
    lost = set(range(1, typed[-1])) - set(typed)
    assert len(lost) <= ROUNDS * 1024 // 8


def test_a_session_of_run(restarting: RestartingInstallation, until: Any) -> None:
    """`run -it` goes on whichever process dies, and has the exit code of the shell."""
    options = ["--env", f"{MARK}={restarting.home}", "--env", "PS1=ready$ ", "--label", "test=session"]
    command = ["bash", "--norc", "--noprofile"]
    with on_terminal(restarting.installation, "run", "-it", *options, *command) as local:
        local.see(b"ready$ ")
        for number in range(ROUNDS):
            for role in VICTIMS:
                kill(restarting, role, until)
                local.type(f"echo {role}''{number}; stty size\r".encode())
                local.see(f"{role}{number}\r\n31 97\r\n".encode())
        local.type(b"exit 3\r")
        assert 3 == local.wait()
        assert local.restored
    job = restarting.installation.worker("list", "--label", "test=session").splitlines()[1].split()[0]
    restarting.installation.worker("remove", job)
