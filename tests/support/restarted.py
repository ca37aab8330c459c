"""Servers that are restarted, connections that break, and clients that resume."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from worker.api import tls
from worker.api.server import ApiServer
from worker.client.client import Client
from worker.client.connection import Connection
from worker.client.errors import Disconnection
from worker.core import Worker
from worker.core.testing import FakeSpawner, MemoryOutputStore

from .served import make_spawner, make_worker, server_tls


class Machine:
    """A Worker whose servers are restarted; ``notices`` are the notifications of its clients."""

    def __init__(self, pki: Path, worker: Worker, spawner: FakeSpawner, outputs: MemoryOutputStore) -> None:
        self.pki = pki
        self.worker = worker
        self.spawner = spawner
        self.outputs = outputs
        self.notices: list[str] = []
        self.connections = 0
        self.port = 0
        self._server: ApiServer | None = None

    def file(self, name: str) -> Path:
        """Return the path of a key or certificate."""
        return self.pki / name

    async def up(self) -> None:
        """Start a server; its port differs from that of the previous one."""
        self._server = ApiServer(self.worker, server_tls(self.pki))
        _, self.port = (await self._server.start("127.0.0.1", 0))[0]

    async def down(self) -> None:
        """Shut the server down as SIGTERM does."""
        if self._server is not None:
            await self._server.shut_down(timeout=10)
            await self._server.close()
            self._server = None

    def client(self, patience: float = 60.0) -> Client:
        """Return a client that connects to the current port of the server."""

        def connect() -> Connection:
            self.connections += 1
            context = tls.client_context(
                ca=self.file("ca.crt"), certificate=self.file("writer.crt"), key=self.file("writer.key")
            )
            return Connection("127.0.0.1", self.port, context)

        def on_lost(error: Disconnection) -> None:
            self.notices.append(str(error))

        return Client(
            connect, patience=patience, on_lost=on_lost, on_back=lambda: self.notices.append("back")
        )


class Wire:
    """A proxy to a port; each connection breaks after its budget of reply bytes."""

    port = 0
    """The proxy's own port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._broken = False
        self._budgets: list[int] = []
        self._ends: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Start the proxy and yield its port."""
        listener = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        yield self.port
        listener.close()
        self.cut([])

    def cut(self, budgets: Sequence[int]) -> None:
        """Break all connections, and set the budgets in bytes of the next ones."""
        self._budgets = list(budgets)
        for end in self._ends:
            end.transport.abort()

    def forward_to(self, machine: Machine) -> None:
        """Connect to the current port of the server, and stay in between."""
        self._port, machine.port = machine.port, self.port

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Break all connections, and each new one, in the context."""
        self._broken = True
        self.cut([])
        yield
        self._broken = False

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._broken:
            writer.transport.abort()
            return
        try:
            replies, requests = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:  # the server is down
            writer.transport.abort()
            return
        budget = self._budgets.pop(0) if self._budgets else None
        ends = {writer, requests}
        self._ends |= ends
        copies = [
            asyncio.ensure_future(_copy(reader, requests, None)),
            asyncio.ensure_future(_copy(replies, writer, budget)),
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


@asynccontextmanager
async def serving(pki: Path, kind: type[Worker] = Worker) -> AsyncIterator[Machine]:
    """Yield a machine whose server is running; stop the server and close the Worker at the end."""
    spawner, outputs = make_spawner(), MemoryOutputStore()
    worker = make_worker(kind, outputs, spawner)
    machine = Machine(pki, worker, spawner, outputs)
    await machine.up()
    try:
        yield machine
    finally:
        await machine.down()
        await worker.close()
