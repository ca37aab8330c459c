"""A server over real TLS on loopback with a Worker over fakes, and single calls to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import betterproto2
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase

from worker.api import tls
from worker.api.authorization import Authorization
from worker.api.bounds import Bounds
from worker.api.grpc.channel import Channel
from worker.api.reflection import Reflection
from worker.api.server import CHECK_PERIOD, ApiServer
from worker.api.server_tls import ServerTls, TlsFiles
from worker.client.client import Client
from worker.core.audit.trail import AuditTrail
from worker.core.engine.job_bounds import JobBounds
from worker.core.policy.in_force import PolicyInForce
from worker.core.testing import (
    FakeLimiter,
    FakeProgram,
    FakeSpawner,
    MemoryOutputStore,
)
from worker.core.worker import Worker
from worker.linux.kernel.unfinished_files import unfinished
from worker.linux.spawner.host_lookup import HostLookup

from .clients import impatient

BINARY = bytes(range(256)) * 1000


class RawCodec(CodecBase):
    """Sends bytes as they are, and returns the reply undecoded."""

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
        """Return a client with this certificate."""
        return impatient(self.host, self.port, self.context(name))

    @asynccontextmanager
    async def channel(self, name: str = "writer", codec: CodecBase | None = None) -> AsyncIterator[Channel]:
        """Open a channel, which raises grpclib's errors."""
        channel = Channel(self.host, self.port, self.context(name), codec)
        try:
            yield channel
        finally:
            await channel.disconnect(1)


def make_spawner() -> FakeSpawner:
    """Return a spawner that knows the programs of these tests."""
    programs: dict[str, Callable[..., FakeProgram]] = {
        "true": lambda _: FakeProgram(),
        "cat": lambda _: FakeProgram(copies_input=True),
        "echo": lambda args: FakeProgram(output=" ".join(args).encode() + b"\n"),
        "talk": lambda _: FakeProgram(output=b"out", errors=b"err", copies_input=True),
        "binary": lambda _: FakeProgram(output=BINARY),
        "binary-and-sleep": lambda _: FakeProgram(output=BINARY, seconds=1000),
        "sleep": lambda args: FakeProgram(seconds=float(args[0])),
        "write-and-sleep": lambda _: FakeProgram(output=b"12345", seconds=1000),
        "stuck": lambda _: FakeProgram(seconds=1000, unkillable=True),
    }
    return FakeSpawner(programs=programs)


def make_worker(
    kind: type[Worker] = Worker,
    outputs: MemoryOutputStore | None = None,
    spawner: FakeSpawner | None = None,
    audit: AuditTrail | None = None,
    bounds: JobBounds | None = None,
) -> Worker:
    """Return a Worker over fakes."""
    return kind(
        spawner=spawner or make_spawner(),
        limiter=FakeLimiter(),
        outputs=MemoryOutputStore() if outputs is None else outputs,
        audit=audit,
        bounds=bounds,
    )


def server_tls(pki: Path) -> ServerTls:
    """Return the TLS of a server with these certificates; a CRL and denied serials are optional."""

    def files() -> TlsFiles:
        crl, denied = (path if path.exists() else None for path in (pki / "ca.crl", pki / "denied"))
        return TlsFiles(pki / "ca.crt", pki / "server.crt", pki / "server.key", crl, denied)

    return ServerTls(files, settled=0, unfinished=unfinished)


@asynccontextmanager
async def serving(
    pki: Path,
    worker: Worker | None = None,
    *,
    bounds: Bounds | None = None,
    host: str = "127.0.0.1",
    check_period: float = CHECK_PERIOD,
    audit: AuditTrail | None = None,
    policy: PolicyInForce | None = None,
    lookup: HostLookup | None = None,
    reflection: Reflection | None = None,
) -> AsyncIterator[Served]:
    """Serve a Worker; assert at the end that no task is left."""
    worker = worker or make_worker(audit=audit)
    authorization = Authorization(worker, policy, lookup or HostLookup())
    server = ApiServer(
        worker,
        server_tls(pki),
        bounds=bounds,
        check_period=check_period,
        audit=audit,
        authorization=authorization,
        reflection=reflection,
    )
    [(address, port)] = await server.start(host, 0)
    try:
        yield Served(server, worker, address, port, pki)
    finally:
        await server.close()
        await worker.close()
        assert {asyncio.current_task()} == {task for task in asyncio.all_tasks() if not idle(task)}


def idle(task: "asyncio.Task[Any]") -> bool:
    """Whether a task belongs to a fake process, which outlives the Worker as a real one does."""
    return "FakeProcess" in repr(task.get_coro())


async def unary(
    channel: Channel, path: str, request: betterproto2.Message | bytes, reply: type, **arguments: Any
) -> Any:
    """Make one call."""
    async with channel.request(path, Cardinality.UNARY_UNARY, type(request), reply, **arguments) as stream:
        await stream.send_message(request, end=True)
        return await stream.recv_message()
