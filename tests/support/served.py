"""A server over real TLS on loopback, a Worker over fakes behind it, and calls by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import betterproto2
from grpclib.client import Channel as GrpcChannel
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase

from worker.api import tls
from worker.api.bounds import Bounds
from worker.api.client import Client, _Channel
from worker.api.server import ApiServer
from worker.api.wire.codec import MessageCodec
from worker.core.testing import (
    FakeLimiter,
    FakeProgram,
    FakeSpawner,
    MemoryOutputStore,
)
from worker.core.worker import Worker

BINARY = bytes(range(256)) * 1000


class RawCodec(CodecBase):
    """Hand-made bytes both ways."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Return the bytes as they are."""
        assert message_type is not None
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        """Return the bytes as they are."""
        assert message_type is not None
        return data


@dataclass
class Served:
    """A running server and its keys."""

    server: ApiServer
    worker: Worker
    host: str
    port: int
    pki: Path

    def context(self, name: str = "writer") -> tls.ClientContext:
        """Return the TLS context of a client."""
        return tls.client_context(
            ca=self.pki / "ca.crt", certificate=self.pki / f"{name}.crt", key=self.pki / f"{name}.key"
        )

    def client(self, name: str = "writer") -> Client:
        """Return a client by the name of its certificate."""
        return Client(self.host, self.port, self.context(name))

    @asynccontextmanager
    async def channel(
        self, name: str = "writer", codec: CodecBase | None = None
    ) -> AsyncIterator[GrpcChannel]:
        """Return a bare channel."""
        channel = _Channel(self.host, self.port, codec=codec or MessageCodec(), ssl=self.context(name))
        try:
            yield channel
        finally:
            connection = channel.current
            channel.close()
            if connection is not None:
                await connection.end(1)


def make_worker(kind: type[Worker] = Worker, outputs: MemoryOutputStore | None = None) -> Worker:
    """Return a Worker over fakes, with a program that writes binary output."""
    programs: dict[str, Callable[..., FakeProgram]] = {
        "true": lambda _: FakeProgram(),
        "echo": lambda args: FakeProgram(output=" ".join(args).encode() + b"\n"),
        "binary": lambda _: FakeProgram(output=BINARY),
        "sleep": lambda args: FakeProgram(seconds=float(args[0])),
        "write-and-sleep": lambda _: FakeProgram(output=b"12345", seconds=1000),
        "stuck": lambda _: FakeProgram(seconds=1000, unkillable=True),
    }
    return kind(
        spawner=FakeSpawner(programs=programs),
        limiter=FakeLimiter(),
        outputs=MemoryOutputStore() if outputs is None else outputs,
    )


@asynccontextmanager
async def serving(
    pki: Path, worker: Worker | None = None, bounds: Bounds | None = None
) -> AsyncIterator[Served]:
    """Serve for a while, and leave nothing behind."""
    worker = worker or make_worker()
    context = tls.server_context(ca=pki / "ca.crt", certificate=pki / "server.crt", key=pki / "server.key")
    server = ApiServer(worker, context, bounds=bounds)
    [(host, port)] = await server.start("127.0.0.1", 0)
    try:
        yield Served(server, worker, host, port, pki)
    finally:
        await server.close()
        await worker.close()
        assert {asyncio.current_task()} == {task for task in asyncio.all_tasks() if not idle(task)}


def idle(task: "asyncio.Task[Any]") -> bool:
    """Whether a task belongs to the fakes, which outlive the Worker as real processes do."""
    return "FakeProcess" in repr(task.get_coro())


def run(
    pki: Path, scenario: Callable[[Served], Coroutine[Any, Any, None]], worker: Worker | None = None
) -> None:
    """Run a scenario against a server."""

    async def main() -> None:
        async with serving(pki, worker) as served:
            await scenario(served)

    asyncio.run(main())


async def unary(
    channel: GrpcChannel, path: str, request: betterproto2.Message | bytes, reply: type, **arguments: Any
) -> Any:
    """Make one call."""
    async with channel.request(path, Cardinality.UNARY_UNARY, type(request), reply, **arguments) as stream:
        await stream.send_message(request, end=True)
        return await stream.recv_message()
