"""The server's line to the supervisor: it is started when there is none, and called over its socket."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ..core.errors import SpawnerUnavailable
from .layout import Layout, socket_address
from .messages import Decoder, Message, encode


class SupervisorGone(Exception):
    """The supervisor has died, or was never reached; nobody knows whether it did what was asked."""


class SupervisorClient:
    """One connection. ``on_event`` hears what becomes of jobs, ``on_lost`` that the supervisor has gone."""

    def __init__(
        self, layout: Layout, on_event: Callable[[Message], None], on_lost: Callable[[], None]
    ) -> None:
        self._layout = layout
        self._on_event = on_event
        self._on_lost = on_lost
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_call = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect to the supervisor that runs, or to a new one; SpawnerUnavailable if there can be none."""
        for _ in range(5):  # one that is just leaving, or another server's that is just coming
            try:
                reader, self._writer = await self._open()
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.to_thread(_start_supervisor, self._layout)
            else:
                self._reading = asyncio.create_task(self._read(reader))
                return
        raise SpawnerUnavailable(
            f"the supervisor ends as soon as it is started; see {self._layout.supervisor}/log"
        )

    async def call(self, do: str, **arguments: object) -> dict[str, Any]:
        """Ask and wait for the answer; SupervisorGone if it does not come."""
        if self._writer is None or self._writer.is_closing():
            raise SupervisorGone
        self._last_call += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[self._last_call] = answer
        self._writer.write(encode({"call": self._last_call, "do": do, **arguments}))
        return await answer

    async def close(self) -> None:
        """Disconnect; the supervisor and its jobs run on."""
        if self._reading:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if self._writer:
            self._writer.close()
            await self._writer.wait_closed()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        directory = os.open(self._layout.supervisor, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(socket_address(directory, "socket"))
        except OSError:
            connection.close()
            raise
        finally:
            os.close(directory)
        return await asyncio.open_unix_connection(sock=connection)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = Decoder()
        while True:
            try:
                data = await reader.read(262144)
            except ConnectionError:
                data = b""
            if not data:
                break
            for message in decoder.feed(data):
                self._take(message)
        assert self._writer is not None
        self._writer.close()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(SupervisorGone())
        self._calls.clear()
        self._on_lost()

    def _take(self, message: Message) -> None:
        call = message.get("call")
        if isinstance(call, int):
            answer = self._calls.pop(call, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
        else:
            self._on_event(message)


def _start_supervisor(layout: Layout) -> None:
    """Start a supervisor and return once it listens, or another one does."""
    layout.make()
    log_path = layout.supervisor / "log"
    ready_read, ready_write = os.pipe()
    try:
        with log_path.open("ab") as log:
            command = [sys.executable, "-P", "-m", "worker.linux.supervisor"]
            # It forks once more and leaves this session: nothing that happens to us happens to it.
            subprocess.run(
                [*command, str(layout.state_dir), str(ready_write)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_write],
                cwd="/",
                check=False,
            )
        os.close(ready_write)
        ready_write = -1
        if not os.read(ready_read, 100):
            raise SpawnerUnavailable(f"the supervisor could not be started; {log_path} says why")
    finally:
        os.close(ready_read)
        if ready_write >= 0:
            os.close(ready_write)
