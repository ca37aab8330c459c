"""The real commands as processes, against a server over fakes in this process."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from .restarted import Machine
from .served import Served


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: bytes
    err: str


async def begin(
    served: Served | Machine,
    *arguments: str,
    stdin: int | IO[bytes] = DEVNULL,
    stderr: int = PIPE,
    wrapper: Sequence[str] = (),
) -> Process:
    """Begin a command; a ``wrapper`` is a program with arguments that executes it."""
    return await asyncio.create_subprocess_exec(
        *wrapper,
        *(sys.executable, "-P", "-m", "worker.cli.main", *arguments),
        env=os.environ
        | {
            "WORKER_SERVER": f"127.0.0.1:{served.port}",
            "WORKER_CA": str(served.pki / "ca.crt"),
            "WORKER_CERT": str(served.pki / "writer.crt"),
            "WORKER_KEY": str(served.pki / "writer.key"),
        },
        stdin=stdin,
        stdout=PIPE,
        stderr=stderr,
    )


async def finish(process: Process, data: bytes | None = None) -> Done:
    """Wait for the end of a command; with data, write it to stdin before, and close stdin."""
    out, err = await process.communicate(data)
    assert process.returncode is not None
    return Done(process.returncode, out, (err or b"").decode())


async def interrupt(process: Process) -> Done:
    """Send SIGINT to a command, and wait for its end; its stdin stays open until then."""
    process.send_signal(signal.SIGINT)
    await process.wait()  # communicate closes stdin: the command would see its end, or the signal, first
    return await finish(process)


async def command(served: Served | Machine, *arguments: str, stdin: int | IO[bytes] = DEVNULL) -> Done:
    """Run a command to its end."""
    return await finish(await begin(served, *arguments, stdin=stdin))


async def piped(served: Served | Machine, data: bytes, *arguments: str) -> Done:
    """Run a command with these bytes in a pipe as its stdin, which then ends."""
    return await finish(await begin(served, *arguments, stdin=PIPE), data)
