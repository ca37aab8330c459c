"""A server without a network: its connection with one client, from the bytes of a call to the reply.

Everything between is the server's own, but jobs are simulated, nothing is encrypted, and the certificate of
the client is not checked.
"""

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from betterproto2 import Message
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import TrailersReceived
from h2.settings import SettingCodes

from worker.api.authorization import Authorization
from worker.api.identity import Caller
from worker.api.server import ApiServer
from worker.core.audit.trail import AuditTrail
from worker.core.engine.registry import JobRegistry
from worker.core.model.job import JobId
from worker.core.policy.in_force import PolicyInForce
from worker.core.policy.lookup import Lookup
from worker.core.policy.rules import Policy
from worker.core.testing import FakeLimiter, FakeProgram, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker

if TYPE_CHECKING:
    from worker.api.server_tls import ServerTls

_PREFIX = struct.Struct(">BI")
_LARGE = 1 << 30
_PEER = ("192.0.2.7", 40000)


class Served:
    """A server and its client, who is ``caller``; without an audit or a policy there is none."""

    def __init__(self, caller: Caller, lookup: Lookup, policy: Policy | None, audit: AuditTrail) -> None:
        self.in_force = PolicyInForce(policy)
        self._spawner = _Spawner(programs=_Programs())
        self.worker = Worker(
            spawner=self._spawner, limiter=FakeLimiter(), outputs=MemoryOutputStore(), audit=audit
        )
        server = ApiServer(
            self.worker,
            cast("ServerTls", SimpleNamespace(trust=None)),
            audit=audit,
            authorization=Authorization(self.worker, self.in_force, lookup),
        )
        self._calls = server._calls  # noqa: SLF001 - there is no public way without a network
        self._transport = _Transport()
        self._connection = server._factory.make()  # noqa: SLF001
        self._transport.set_protocol(self._connection)
        self._connection.connection_made(self._transport)
        self._connection.check = cast("Any", SimpleNamespace(caller=caller, refusal=lambda: None))
        self._client = H2Connection(H2Configuration(client_side=True))
        self._client.initiate_connection()
        self._client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: _LARGE})
        self._client.increment_flow_control_window(_LARGE)
        self._connection.data_received(self._client.data_to_send())
        self.check_replies(0)

    def call(self, method: str, message: Message) -> bytes:
        """Return the bytes of a call."""
        stream = self._client.get_next_available_stream_id()
        path = f"/worker.v1.WorkerService/{method}"
        headers = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "worker")]
        self._client.send_headers(
            stream, [*headers, ("te", "trailers"), ("content-type", "application/grpc")]
        )
        data = bytes(message)
        self._client.send_data(stream, _PREFIX.pack(0, len(data)) + data, end_stream=True)
        return self._client.data_to_send()

    async def serve(self, call: bytes, jobs: int) -> None:
        """Serve a call until it is over, and wait until so many jobs have ended."""
        self._connection.data_received(call)
        await asyncio.sleep(0)  # its task begins
        await self._calls.ended()
        for _ in range(jobs):
            await self._spawner.forgotten.get()

    def check_replies(self, number: int) -> None:
        """Let the client read the replies; raise an error unless there are so many, all with status OK."""
        received, self._transport.written = self._transport.written, []
        events = self._client.receive_data(b"".join(received))
        trailers = [event for event in events if isinstance(event, TrailersReceived)]
        codes = [dict(event.headers or ())[b"grpc-status"] for event in trailers]
        if codes != [b"0"] * number:
            raise RuntimeError(f"not answered as expected: {events[:3]}")

    async def remove_jobs(self) -> None:
        """Remove all jobs."""
        for status in await self.worker.list():
            await self.worker.remove(status.record.id)

    async def close(self) -> None:
        """Close everything."""
        self._connection.connection_lost(None)
        await self.worker.close()


@contextmanager
def without_bounds() -> Iterator[None]:
    """Count and bound nothing in what is made and served meanwhile, except the sizes of requests."""
    grpc = "worker.api.grpc"
    with (
        patch(f"{grpc}.server_connection.FrameBudgets", _Unbounded),
        patch(f"{grpc}.calls.ByteBudget", _Unbounded),
        patch(f"{grpc}.calls.CallTurns", _Unbounded),
        patch("worker.api.handlers.check_start", _nothing),
        patch.object(JobRegistry, "check_room", _nothing),
    ):
        yield


def _nothing(*_: object) -> None:
    """Check nothing."""


class _Unbounded:
    """Stands for each of the objects that count what a client uses."""

    def __init__(self, *_: object, **__: object) -> None:
        """Keep nothing."""

    def take(self, data: bytes, _: int, __: float) -> tuple[int, None]:
        """Count no frames."""
        return len(data), None

    def try_take(self, *_: object) -> bool:
        """Count no bytes."""
        return True

    async def begin(self, _: str) -> None:
        """Wait for no turn."""

    enter = leave = end = release = _nothing


class _Spawner(FakeSpawner):
    """Tells when a job is over; ``forget`` is the last that happens to it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.forgotten: asyncio.Queue[JobId] = asyncio.Queue()

    async def forget(self, job: JobId) -> None:
        """Count a job."""
        await super().forget(job)
        self.forgotten.put_nowait(job)


class _Programs(dict[str, Any]):
    """Every command is one that ends at once."""

    def get(self, _: str, __: object = None) -> Any:
        """Return the only program."""
        return lambda _: FakeProgram()


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": _PEER, "ssl_object": _Tls()})
        self.written: list[bytes] = []

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Keep the connection."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the connection."""
        return self._protocol

    def write(self, data: Any) -> None:
        """Keep data."""
        self.written.append(data)

    def is_closing(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Do nothing."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: nothing waits."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


class _Tls:
    """Has negotiated HTTP/2, and says nothing of the client, who is set after that."""

    def selected_alpn_protocol(self) -> str:
        """Return the name of HTTP/2."""
        return "h2"

    def getpeercert(self, *, binary_form: bool) -> None:
        """Return no certificate."""

    def get_verified_chain(self) -> list[Any]:
        """Return no chain."""
        return []

    @property
    def _sslobj(self) -> "_Tls":
        return self
