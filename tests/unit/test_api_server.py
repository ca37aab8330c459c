"""The server over real TLS on loopback: who may call what, what is refused, how it ends."""

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import betterproto2
import pytest
from grpclib.client import Channel as GrpcChannel
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError

from worker.api import certificates, tls
from worker.api.certificates import KeyType
from worker.api.client import Client, RpcError, ServerUnreachable, _Channel
from worker.api.codec import MessageCodec
from worker.api.methods import METHODS
from worker.api.roles import Right
from worker.api.server import ApiServer
from worker.core.ending import Exited, Signaled
from worker.core.job import Chunk, JobId, JobSpec, JobState
from worker.core.limits import IoLimit, LimitPolicy, MemoryLimit, ResourceLimits
from worker.core.testing import FakeLimiter, FakeProgram, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker
from worker.proto import health
from worker.proto import worker as proto

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


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates, and one of a client that has no role."""
    directory = tmp_path_factory.mktemp("server") / "pki"
    certificates.init(directory, key_type=KeyType.P256)
    certificates.issue(directory, "nobody", [], key_type=KeyType.P256)
    return directory


def make_worker(kind: type[Worker] = Worker) -> Worker:
    """Return a Worker over fakes, with a program that writes binary output."""
    programs: dict[str, Callable[..., FakeProgram]] = {
        "true": lambda _: FakeProgram(),
        "echo": lambda args: FakeProgram(output=" ".join(args).encode() + b"\n"),
        "binary": lambda _: FakeProgram(output=BINARY),
        "sleep": lambda args: FakeProgram(seconds=float(args[0])),
        "write-and-sleep": lambda _: FakeProgram(output=b"12345", seconds=1000),
        "stuck": lambda _: FakeProgram(seconds=1000, unkillable=True),
    }
    return kind(spawner=FakeSpawner(programs=programs), limiter=FakeLimiter(), outputs=MemoryOutputStore())


@asynccontextmanager
async def serving(pki: Path, worker: Worker | None = None) -> AsyncIterator[Served]:
    """Serve for a while, and leave nothing behind."""
    worker = worker or make_worker()
    context = tls.server_context(ca=pki / "ca.crt", certificate=pki / "server.crt", key=pki / "server.key")
    server = ApiServer(worker, context)
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


def test_the_whole_life_of_a_job(pki: Path) -> None:
    """Start, query, stream, wait, list and remove do what they say."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            assert await client.health()
            job = await client.start(JobSpec("binary", labels={"a": "b"}), request_id="1")
            assert job == await client.start(JobSpec("binary", labels={"a": "b"}), request_id="1")
            status = await client.wait(str(job))
            assert (Exited(0), "writer") == (status.ending, status.record.owner)
            assert status == await client.query(str(job))
            assert BINARY == b"".join([chunk.data async for chunk in client.stream(str(job))])
            tail = [chunk async for chunk in client.stream(str(job), tail_bytes=3)]
            assert [Chunk(len(BINARY) - 3, BINARY[-3:])] == tail
            assert [status] == await client.list(labels={"a": "b"})
            assert [] == await client.list(running=True)
            await client.remove(str(job))
            assert [] == await client.list()

    run(pki, scenario)


def test_limits_are_updated_while_a_job_runs(pki: Path) -> None:
    """What an update names is changed and told by query, the rest stays; nothing named is no update."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            spec = JobSpec("sleep", ["1000"], limits=ResourceLimits(pids=5, io=(IoLimit("/dev/vda", 1),)))
            job = str(await client.start(spec))
            await client.update(job, ResourceLimits(pids=7, io=(IoLimit("/dev/vda", None, 2),)))
            holds = ResourceLimits(pids=7, io=(IoLimit("/dev/vda", 1, 2),))
            assert holds == (await client.query(job)).record.limits
            with pytest.raises(RpcError, match="InvalidArgument desc = limits: none is given"):
                await client.update(job, ResourceLimits())
            await client.stop(job)
            with pytest.raises(RpcError, match="FailedPrecondition desc = the process is already finished"):
                await client.update(job, ResourceLimits(pids=9))
            assert holds == (await client.query(job)).record.limits

    run(pki, scenario)


def test_the_policy_of_the_server_binds_every_job(pki: Path) -> None:
    """A job that asks for nothing gets the default; above the maximum it is refused, with the bound."""
    policy = LimitPolicy(
        ResourceLimits(pids=10), ResourceLimits(pids=20, memory=MemoryLimit(max=4096), cpuset="0-1,3")
    )
    worker = Worker(
        spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore(), policy=policy
    )

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
            holds = ResourceLimits(pids=10, memory=MemoryLimit(max=4096), cpuset="0-1,3")
            assert holds == (await client.query(job)).record.limits
            refusal = "InvalidArgument desc = limits.pids: 21 is above this server's maximum of 20"
            with pytest.raises(RpcError, match=refusal):
                await client.start(JobSpec("true", limits=ResourceLimits(pids=21)))
            with pytest.raises(RpcError, match=refusal):
                await client.update(job, ResourceLimits(pids=21))
            refusal = "limits.cpuset: CPU 2 is not among those that this server allows, 0-1,3"
            with pytest.raises(RpcError, match=refusal):
                await client.update(job, ResourceLimits(cpuset="1-3"))
            await client.update(job, ResourceLimits(cpuset="3,0"))
            assert [job] == [str(each.record.id) for each in await client.list()]
            await client.stop(job, grace=0)

    run(pki, scenario, worker)


def test_stop_answers_when_the_job_is_over(pki: Path) -> None:
    """The signal is the one asked for; a second stop is told that there is nothing to stop."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
            await client.stop(job, signal=10)
            assert Signaled(10) == (await client.query(job)).ending
            with pytest.raises(RpcError) as caught:
                await client.stop(job)
            assert "rpc error: code = FailedPrecondition desc = the process is already finished" == str(
                caught.value
            )

    run(pki, scenario)


def test_every_method_wants_its_right(pki: Path) -> None:
    """The matrix of the table: who may not call is denied, who may gets further, on every path."""

    async def denied(channel: GrpcChannel, path: str) -> bool:
        method = METHODS[path]
        try:
            async with channel.request(path, method.cardinality, method.request, method.reply) as stream:
                await stream.send_message(method.request(), end=True)
                await stream.recv_message()
                if method.name == "Watch":
                    await stream.cancel()
        except GRPCError as error:
            return error.status is Status.PERMISSION_DENIED
        return False

    async def scenario(served: Served) -> None:
        for name, rights in (("writer", set(Right)), ("reader", {Right.READ}), ("nobody", set())):
            async with served.channel(name) as channel:
                allowed = {path for path in METHODS if not await denied(channel, path)}
                assert {path for path, method in METHODS.items() if method.right in rights} == allowed

    run(pki, scenario)


def test_a_method_that_is_not_in_the_table_does_not_exist(pki: Path) -> None:
    """Also the additions of ours on the original's path."""

    async def scenario(served: Served) -> None:
        async with served.channel() as channel:
            for path in (
                "/WorkerService/List",
                "/worker.v1.WorkerService/Restart",
                "/WorkerService/Update",
                "/x/y",
                "/",
            ):
                with pytest.raises(GRPCError) as caught:
                    await unary(channel, path, proto.StopRequest(), proto.StopResponse)
                assert Status.UNIMPLEMENTED == caught.value.status

    run(pki, scenario)


async def unary(
    channel: GrpcChannel, path: str, request: betterproto2.Message | bytes, reply: type, **arguments: Any
) -> Any:
    """Make one call."""
    async with channel.request(path, Cardinality.UNARY_UNARY, type(request), reply, **arguments) as stream:
        await stream.send_message(request, end=True)
        return await stream.recv_message()


def test_a_command_that_cannot_be_run(pki: Path) -> None:
    """The client learns the reason and its errno, and no job is left."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            with pytest.raises(RpcError) as caught:
                await client.start(JobSpec("missing"))
            error = caught.value
            assert ("InvalidArgument", "missing: No such file or directory", 2) == (
                error.code,
                error.message,
                error.errno,
            )
            assert [] == await client.list()

    run(pki, scenario)


@pytest.mark.parametrize(
    "job", ["", "x", "b58476f2-9479-445b-898d-29eeaf905a47", "a\nb\0c\x7f%20€", "x" * 100_000]
)
def test_a_job_that_is_not_there(pki: Path, job: str) -> None:
    """Whatever was typed, every method says NotFound, with the text as it was typed."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            calls: list[Awaitable[Any]] = [
                client.query(job),
                client.stop(job),
                client.wait(job),
                client.remove(job),
                anext(client.stream(job)),
            ]
            for call in calls:
                with pytest.raises(RpcError) as caught:
                    await call
                assert "NotFound" == caught.value.code
                assert f"Job {job} not found"[:1000] == caught.value.message[:1000]

    run(pki, scenario)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/worker.v1.WorkerService/Start", b"\x0a\x7fls"),
        ("/WorkerService/Start", b"\xff\xff"),
        ("/WorkerService/Start", b"\x0a\x02\xff\xfe"),
        ("/WorkerService/Query", b"\x08\x01"),
        ("/WorkerService/Stream", b"\x0b"),
        ("/grpc.health.v1.Health/Check", b"\0"),
    ],
)
def test_a_malformed_message_is_an_invalid_argument(pki: Path, path: str, data: bytes) -> None:
    """It changes nothing, and the error says what is wrong with it."""

    async def scenario(served: Served) -> None:
        async with served.channel(codec=RawCodec()) as channel:
            with pytest.raises(GRPCError) as caught:
                await unary(channel, path, data, bytes)
            assert Status.INVALID_ARGUMENT == caught.value.status
            assert (caught.value.message or "").startswith("malformed request: ")
        assert [] == await served.worker.list()

    run(pki, scenario)


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (b"", Status.INVALID_ARGUMENT),
        (b"\0", Status.INVALID_ARGUMENT),
        (b"\0\0\0\0\x05ls", Status.INVALID_ARGUMENT),
        (b"\x01\0\0\0\x02ls", Status.UNIMPLEMENTED),
        (struct.pack(">BI", 0, 0xFFFFFFFF), Status.RESOURCE_EXHAUSTED),
        (struct.pack(">BI", 0, (4 << 20) + 1) + b"x", Status.RESOURCE_EXHAUSTED),
    ],
    ids=["no message", "no size", "cut short", "compressed", "4 GiB", "just too long"],
)
def test_a_wrong_frame_gets_an_error_of_its_own(pki: Path, frame: bytes, status: Status) -> None:
    """Neither UNKNOWN nor a buffer of 4 GiB."""

    async def scenario(served: Served) -> None:
        async with (
            served.channel() as channel,
            channel.request(
                "/WorkerService/Start", Cardinality.STREAM_STREAM, proto.StartRequest, proto.StartResponse
            ) as stream,
        ):
            await stream.send_request()
            await stream._stream.send_data(frame, end_stream=True)
            stream._end_done = True
            with pytest.raises(GRPCError) as caught:
                await stream.recv_message()
            assert status == caught.value.status
            assert caught.value.message

    run(pki, scenario)


def test_a_megabyte_of_arguments(pki: Path) -> None:
    """It arrives whole, and comes back whole."""

    async def scenario(served: Served) -> None:
        args = ["x" * 100_000] * 10
        async with served.client() as client:
            job = str(await client.start(JobSpec("echo", args)))
            status = await client.wait(job)
            assert tuple(args) == status.record.spec.args
            output = b"".join([chunk.data async for chunk in client.stream(job)])
            assert " ".join(args).encode() + b"\n" == output

    run(pki, scenario)


def test_the_original_path_sends_text(pki: Path) -> None:
    """Binary output is UTF-8 there, on every border of chunks."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = str(await client.start(JobSpec("binary")))
        async with (
            served.channel("reader") as channel,
            channel.request(
                "/WorkerService/Stream",
                Cardinality.UNARY_STREAM,
                proto.StreamRequest,
                proto.StreamResponse,
            ) as stream,
        ):
            await stream.send_message(proto.StreamRequest(job_id=job), end=True)
            pieces = [reply.output.decode() async for reply in stream]
            assert BINARY.decode(errors="replace") == "".join(pieces)

    run(pki, scenario)


class Observed(Worker):
    """Tells when its stream is opened and closed."""

    opened: asyncio.Event
    closed: asyncio.Event

    async def stream(self, job_id: JobId, **arguments: Any) -> AsyncGenerator[Chunk, None]:
        """Yield one chunk and wait."""
        del job_id, arguments
        self.opened, self.closed = asyncio.Event(), asyncio.Event()
        try:
            self.opened.set()
            yield Chunk(0, b"first")
            await asyncio.Future[None]()
        finally:
            self.closed.set()


@pytest.mark.parametrize("way", ["reset", "disconnect"])
def test_a_client_that_goes_away_closes_its_stream(
    pki: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The generator is closed at once, and nothing is logged as an error."""
    worker = make_worker(Observed)
    assert isinstance(worker, Observed)

    async def scenario(served: Served) -> None:
        client = await served.client("reader").__aenter__()
        chunks = client.stream("b58476f2-9479-445b-898d-29eeaf905a47")
        assert Chunk(0, b"first") == await anext(chunks)
        if way == "reset":
            await chunks.aclose()
            await worker.closed.wait()
            await client.__aexit__(None, None, None)
        else:
            await client.__aexit__(None, None, None)
            await worker.closed.wait()
            with pytest.raises(ServerUnreachable):
                await anext(chunks)

    with caplog.at_level(logging.WARNING):
        run(pki, scenario, worker)
    assert [] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("timeout", ["50m", "1n", "0n"])
def test_a_deadline_that_passes_is_told(pki: Path, timeout: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a message and without noise in the log, also when it has passed before the call arrives."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
        async with served.channel() as channel:
            request = proto.WaitRequest(job_id=job)
            with pytest.raises(GRPCError) as caught:
                await wait_with_deadline(channel, request, timeout)
            assert Status.DEADLINE_EXCEEDED == caught.value.status
            assert "the call's deadline has passed" == caught.value.message

    with caplog.at_level(logging.WARNING):
        run(pki, scenario)
    assert [] == [record.getMessage() for record in caplog.records]


async def wait_with_deadline(channel: GrpcChannel, request: proto.WaitRequest, timeout: str) -> None:
    """Call Wait with a deadline that this side does not keep itself."""
    protocol = await channel.__connect__()
    stream = protocol.processor.connection.create_stream()
    headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/worker.v1.WorkerService/Wait"),
        (":authority", "localhost"),
        ("grpc-timeout", timeout),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    release = await stream.send_request(headers, _processor=protocol.processor)
    data = bytes(request)
    await stream.send_data(struct.pack(">BI", 0, len(data)) + data, end_stream=True)
    answer = dict(await stream.recv_headers())
    release()
    raise GRPCError(Status(int(answer["grpc-status"])), answer["grpc-message"])


def test_what_the_kernel_cannot_end_yet_is_told(pki: Path) -> None:
    """Stop answers with the pid and its state instead of success."""

    class Impatient(Worker):
        async def _within(self, event: Awaitable[object], seconds: float) -> bool:
            return await super()._within(event, min(seconds, 0.05))

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = str(await client.start(JobSpec("stuck")))
            with pytest.raises(RpcError, match="state D") as caught:
                await client.stop(job, grace=0)
            assert "DeadlineExceeded" == caught.value.code
            assert JobState.STOPPING == (await client.query(job)).state

    run(pki, scenario, make_worker(Impatient))


def test_an_unexpected_error_is_internal_and_logged(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client sees neither the text nor the trace; the log has both."""

    class Broken(Worker):
        async def list(self, **arguments: Any) -> Any:
            raise RuntimeError(f"secret {arguments}")

        async def stream(self, job_id: JobId, **arguments: Any) -> AsyncGenerator[Chunk, None]:
            yield Chunk(0, b"x")
            raise RuntimeError(f"secret {job_id} {arguments}")

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            with pytest.raises(RpcError) as caught:
                await client.list()
            assert ("Internal", "internal error; see the server's log") == (
                caught.value.code,
                caught.value.message,
            )
            chunks = client.stream("b58476f2-9479-445b-898d-29eeaf905a47")
            await anext(chunks)
            with pytest.raises(RpcError, match="Internal"):
                await anext(chunks)

    run(pki, scenario, make_worker(Broken))
    assert 2 == caplog.text.count("Traceback")
    assert "secret" in caplog.text


def test_changes_are_audited(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who did what to which job, how it went; one line each, whatever was typed."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = await client.start(JobSpec("true"))
            await client.wait(str(job))
            await client.remove(str(job))
            with pytest.raises(RpcError):
                await client.stop("x\ny")
        async with served.client("reader") as client:
            with pytest.raises(RpcError, match="PermissionDenied"):
                await client.start(JobSpec("true"))
        lines = [record.getMessage() for record in caplog.records if record.name == "worker.audit"]
        assert [
            f"'writer': Start: job '{job}': 'OK'",
            f"'writer': Remove: job '{job}': 'OK'",
            "'writer': Stop: job 'x\\ny': 'NotFound: Job x\\ny not found'",
            "'reader': Start: denied",
        ] == lines

    with caplog.at_level(logging.INFO, logger="worker.audit"):
        run(pki, scenario)


def test_a_drain_tells_who_is_blocked_and_lets_others_end(pki: Path) -> None:
    """Streams, waits, stops and watches get UNAVAILABLE; new calls too; new connections are refused."""

    async def scenario(served: Served) -> None:
        async with served.client() as client, served.channel() as channel:
            job = str(await client.start(JobSpec("write-and-sleep")))
            stuck = str(await client.start(JobSpec("stuck")))
            chunks = client.stream(job)
            assert Chunk(0, b"12345") == await anext(chunks)
            watch = health.HealthStub(channel).watch(health.HealthCheckRequest())
            assert health.HealthCheckResponseServingStatus.SERVING == (await anext(watch)).status
            calls = [
                asyncio.create_task(blocked)
                for blocked in (anext(chunks), client.wait(job), client.stop(stuck, grace=0))  # type: ignore[type-var]
            ]
            while (await client.query(stuck)).state is not JobState.STOPPING:
                pass
            await served.server.drain(60)
            messages = [str(error) for error in await asyncio.gather(*calls, return_exceptions=True)]
            assert all("code = Unavailable desc = the server is shutting down" in each for each in messages)
            assert "resume at offset 5" in messages[0]
            assert health.HealthCheckResponseServingStatus.NOT_SERVING == (await anext(watch)).status
            with pytest.raises(GRPCError, match="shutting down"):
                await anext(watch)
            with pytest.raises(RpcError, match="Unavailable"):
                await client.query(job)
            async with served.client() as late:
                with pytest.raises(ServerUnreachable, match="connection refused"):
                    await late.query(job)
        assert 2 == len(await served.worker.list(running=True))

    run(pki, scenario)


def test_a_drain_waits_no_longer_than_it_may(pki: Path) -> None:
    """A call that does not end is ended by close; its client is told that the connection is gone."""

    class Slow(Worker):
        entered: asyncio.Event

        async def query(self, job_id: JobId) -> Any:
            del job_id
            self.entered.set()
            await asyncio.Future[None]()

    worker = make_worker(Slow)
    assert isinstance(worker, Slow)

    async def scenario(served: Served) -> None:
        worker.entered = asyncio.Event()
        async with served.client() as client:
            call = asyncio.create_task(client.query("b58476f2-9479-445b-898d-29eeaf905a47"))
            await worker.entered.wait()
            await served.server.drain(0)
            assert not call.done()
            await served.server.close()
            with pytest.raises(ServerUnreachable):
                await call

    run(pki, scenario, worker)


def test_close_does_not_wait_for_idle_clients(pki: Path) -> None:
    """Connections without calls are closed too."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            assert await client.health()
            await served.server.drain(60)
            await served.server.close()

    run(pki, scenario)


def test_a_server_that_was_not_started_can_be_closed(pki: Path) -> None:
    """Whoever fails to start need not know how far it came."""

    async def main() -> None:
        worker = make_worker()
        context = tls.server_context(
            ca=pki / "ca.crt", certificate=pki / "server.crt", key=pki / "server.key"
        )
        server = ApiServer(worker, context)
        await server.drain(1)
        await server.close()
        await worker.close()

    asyncio.run(main())


def test_the_certificate_is_looked_at_once_per_connection(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many calls of one client do not parse it again."""
    looks: list[bytes] = []
    from worker.api import calls

    identify = calls.identify

    def look(certificate: bytes) -> Any:
        looks.append(certificate)
        return identify(certificate)

    monkeypatch.setattr(calls, "identify", look)

    async def scenario(served: Served) -> None:
        for _ in range(2):
            async with served.client() as client:
                await asyncio.gather(*(client.health() for _ in range(5)))

    run(pki, scenario)
    assert 2 == len(looks)
