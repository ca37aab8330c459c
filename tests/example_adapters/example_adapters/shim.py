"""Run as ``python -m example_adapters.shim DIRECTORY``: runs one job from its start to its end.

The state machine of worker.core decides each action, as in worker's own supervisor.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker.core import (
    Channel,
    End,
    Exited,
    Leftovers,
    Signaled,
)
from worker.core.lifecycle import (
    AllEnded,
    Drain,
    Event,
    Finish,
    Kill,
    Lifecycle,
    MainEnded,
    OutputDrained,
    SendSignal,
    Started,
    StopRequested,
    TimePassed,
    Whom,
)

POLL = 0.02
"""Seconds between checks of a process group whose first process has ended."""


class Shim:
    """One job."""

    def __init__(self, directory: Path, job: Mapping[str, Any]) -> None:
        self._directory = directory
        self._job = job
        self._life = Lifecycle(
            timeout=job["timeout"],
            grace=job["grace"],
            leftovers=Leftovers(job["leftovers"]),
            linger=job["linger"],
            signal_all=job["signal_all"],
        )
        self._alarm: asyncio.TimerHandle | None = None
        self._group = 0
        self._files = {
            Channel(channel): os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            for channel, (path, _) in job["files"].items()
        }
        self._orders = os.open(directory / "orders", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    async def run(self) -> None:
        """Execute the command, and return when the end is written."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._job["argv"],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._files.get(Channel.STDOUT, self._files.get(Channel.OUTPUT)),
                stderr=self._files.get(Channel.STDERR, self._files.get(Channel.OUTPUT)),
                cwd=self._job["cwd"],
                env=self._job["env"],
                start_new_session=True,
                umask=0o022,
            )
        except OSError as error:
            _report({"failed": [error.errno, f"{error.filename}: {error.strerror}"]})
            return
        self._group = process.pid
        self._write("started", {"pid": process.pid, "started_at": time.time()})
        self._handle(Started())
        asyncio.get_running_loop().add_reader(self._orders, self._read_orders)
        _report({})
        code = await process.wait()
        self._handle(MainEnded(Exited(code) if code >= 0 else Signaled(-code)))
        while self._signal_group(0):
            await asyncio.sleep(POLL)
        self._handle(AllEnded())

    def _read_orders(self) -> None:
        for line in os.read(self._orders, 65536).splitlines():
            number, grace = line.split()
            self._handle(StopRequested(int(number), float(grace)))

    def _handle(self, event: Event) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for action in self._life.handle(event, now):
            match action:
                case SendSignal(number, whom):
                    self._signal(number, whom)
                case Kill():
                    self._signal_group(signal.SIGKILL)
                case Drain():  # the job has written to the files by itself
                    self._handle(OutputDrained(self._sizes(), time.time()))
                case Finish(end):
                    self._write("end", _text_of(end))
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._life.deadline is not None:
            later = asyncio.get_running_loop().call_later
            self._alarm = later(max(0.0, self._life.deadline - now), self._handle, TimePassed())

    def _signal(self, number: int, whom: Whom) -> None:
        """Signal processes of the job; a stopped main process has to continue to handle it."""
        if whom is not Whom.OTHERS:
            with suppress(ProcessLookupError):
                os.kill(self._group, number)
                os.kill(self._group, signal.SIGCONT)
        if whom is not Whom.MAIN:
            for process in _processes_of(self._group) - {self._group}:
                with suppress(ProcessLookupError):
                    os.kill(process, number)

    def _signal_group(self, number: int) -> bool:
        """Signal the processes of the job; return whether there are any."""
        with suppress(ProcessLookupError):
            os.killpg(self._group, number)
            return True
        return False

    def _sizes(self) -> dict[Channel, int]:
        starts = {Channel(channel): start for channel, (_, start) in self._job["files"].items()}
        return {channel: os.fstat(file).st_size - starts[channel] for channel, file in self._files.items()}

    def _write(self, name: str, text: Mapping[str, object]) -> None:
        """Write a file that is complete as soon as it has its name."""
        new = self._directory / f"{name}.new"
        new.write_text(json.dumps(text))
        new.rename(self._directory / name)


def _processes_of(group: int) -> set[int]:
    """Return the processes of a process group."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if int((directory / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                found.add(int(directory.name))
    return found


def _report(event: Mapping[str, object]) -> None:
    os.write(sys.stdout.fileno(), f"{json.dumps(event)}\n".encode())


def _text_of(end: End) -> dict[str, object]:
    match end.ending:
        case Exited(number):
            kind = "exited"
        case Signaled(number):
            kind = "signaled"
        case _:
            raise AssertionError(end)
    return {
        "ending": [kind, int(number)],
        "cause": end.cause,
        "output": dict(end.output),
        "ended_at": end.ended_at,
    }


def main() -> None:
    """Detach from the server, then run the job."""
    if os.fork():
        os._exit(0)
    os.setsid()
    directory = Path(sys.argv[1])
    asyncio.run(Shim(directory, json.loads((directory / "job").read_text())).run())


if __name__ == "__main__":
    main()
