"""Servers that come and go, wires to them that break, and clients that are told about it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from worker.api import tls
from worker.api.client import Client
from worker.api.resuming import Disconnection, ResumingClient
from worker.api.server import ApiServer
from worker.core.testing import MemoryOutputStore
from worker.core.worker import Worker

from .served import make_worker


class Machine:
    """A worker whose servers come and go, and clients that are told about it."""

    def __init__(self, pki: Path, worker: Worker, outputs: MemoryOutputStore) -> None:
        self.pki = pki
        self.worker = worker
        self.outputs = outputs
        self.told: list[str] = []
        self.connections = 0
        self.port = 0
        self._server: ApiServer | None = None

    def file(self, name: str) -> Path:
        """Return a key or certificate."""
        return self.pki / name

    async def up(self) -> None:
        """Start a server; it has another port than the one before."""
        context = tls.server_context(
            ca=self.file("ca.crt"), certificate=self.file("server.crt"), key=self.file("server.key")
        )
        self._server = ApiServer(self.worker, context)
        _, self.port = (await self._server.start("127.0.0.1", 0))[0]

    async def down(self) -> None:
        """End the server as SIGTERM does."""
        if self._server is not None:
            await self._server.drain(timeout=10)
            await self._server.close()
            self._server = None

    def client(self, patience: float = 60.0) -> ResumingClient:
        """Return a client that finds the server wherever it is."""

        def connect() -> Client:
            self.connections += 1
            context = tls.client_context(
                ca=self.file("ca.crt"), certificate=self.file("writer.crt"), key=self.file("writer.key")
            )
            return Client("127.0.0.1", self.port, context)

        def on_lost(error: Disconnection) -> None:
            self.told.append(str(error))

        return ResumingClient(
            connect, patience=patience, on_lost=on_lost, on_back=lambda: self.told.append("back")
        )


class Wire:
    """What connects clients to a port; it breaks after so many bytes of answers, once per budget."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._budgets: list[int] = []
        self._ends: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Have it work, and return the port of its near end."""
        listener = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        yield listener.sockets[0].getsockname()[1]
        listener.close()
        self.cut([])

    def cut(self, budgets: Sequence[int]) -> None:
        """Break now, and again at these numbers of bytes."""
        self._budgets = list(budgets)
        for end in self._ends:
            end.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._port)
        budget = self._budgets.pop(0) if self._budgets else None
        ends = {writer, requests}
        self._ends |= ends
        copies = [
            asyncio.ensure_future(_copy(reader, requests, None)),
            asyncio.ensure_future(_copy(answers, writer, budget)),
        ]
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.transport.abort()
        await asyncio.wait(copies)
        self._ends -= ends


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None) -> None:
    with suppress(OSError):
        while data := await reader.read(65536 if budget is None else min(budget, 65536)):
            writer.write(data)
            await writer.drain()
            if budget is not None:
                budget -= len(data)


Scenario = Callable[[Machine], Coroutine[Any, Any, None]]


def run(pki: Path, scenario: Scenario, kind: type[Worker] = Worker) -> None:
    """Run a scenario on a machine whose server is up."""

    async def main() -> None:
        outputs = MemoryOutputStore()
        worker = make_worker(kind, outputs)
        machine = Machine(pki, worker, outputs)
        await machine.up()
        try:
            await scenario(machine)
        finally:
            await machine.down()
            await worker.close()

    asyncio.run(main())
