"""Jobs and clients that do not read: each stops only what it concerns, at a bounded cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from worker.api.attach_messages import ChannelChunk
from worker.api.bounds import Bounds
from worker.api.grpc.requests import INPUT_WINDOW, MAX_STREAMED_REQUEST, WINDOW
from worker.client.attachment import AttachCall
from worker.client.client import Client
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.client.pending_input import MOST_KEPT, PIECE, PendingInput
from worker.core.model.ending import Channel
from worker.core.model.input import InputState
from worker.core.model.job import JobId, JobSpec
from worker.core.model.stream_start import BEGINNING
from worker.core.testing import FakeLimiter, FakeProgram, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker

from ..support.attaching import Typed, attach_once
from ..support.restarted import serving as restartable
from ..support.served import Served, serving

LOTS = 50_000_000
PIECES = bytes(range(256)) * 256
NOISE = 20_000_000


class Bench:
    """A server with a job that copies its input, and one that writes a lot."""

    def __init__(self, served: Served, spawner: FakeSpawner, outputs: MemoryOutputStore) -> None:
        self.served = served
        self.spawner = spawner
        self.outputs = outputs

    async def start(self, command: str) -> JobId:
        """Start a job with an open stdin."""
        return await self.served.worker.start(JobSpec(command, stdin=True))


@asynccontextmanager
async def bench(pki: Path, bounds: Bounds | None = None) -> AsyncIterator[Bench]:
    """Serve a Worker over fakes."""
    programs = {
        "cat": lambda _: FakeProgram(copies_input=True),
        "noise": lambda _: FakeProgram(output=bytes(NOISE), copies_input=True),
    }
    spawner, outputs = FakeSpawner(programs=programs), MemoryOutputStore()
    worker = Worker(spawner=spawner, limiter=FakeLimiter(), outputs=outputs)
    async with serving(pki, worker, bounds=bounds) as served:
        yield Bench(served, spawner, outputs)


class Flood:
    """A client that sends input as fast as it can, without regard to what was accepted."""

    def __init__(self, call: AttachCall) -> None:
        self.sent = 0
        self.task = asyncio.ensure_future(self._send(call))
        self._wire = call._call._stream._stream

    async def _send(self, call: AttachCall) -> None:
        while self.sent < LOTS:
            await call.write(self.sent, PIECES)
            self.sent += len(PIECES)
        await call.write(self.sent, b"", end=True)

    async def stopped(self, client: Client) -> None:
        """Wait until the window of the call is closed; other calls of the connection are answered."""
        h2 = self._wire._h2_connection
        while h2.local_flow_control_window(self._wire.id) > 0:
            assert await client.health()


async def test_a_job_that_does_not_read(pki: Path) -> None:
    """The window stops the client, other calls of its connection go on, and later all bytes arrive."""
    async with bench(pki) as machine, machine.served.client() as client:
        job = await machine.start("cat")
        machine.spawner.pause_reading(job)
        async with attach_once(client, job, session="", output={}) as call:
            flood = Flood(call)
            await flood.stopped(client)
            other = (await client.start(JobSpec("cat", ["x" * 4 * WINDOW], stdin=True))).id
            await Job(client, other).stop()
            await flood.stopped(client)
            assert flood.sent <= INPUT_WINDOW + MAX_STREAMED_REQUEST
            [connection] = machine.served.server.connections
            unread = [len(each.buffer._data) for each in connection.processor.streams.values()]
            assert sum(unread) <= INPUT_WINDOW
            machine.spawner.resume_reading(job)
            while (event := await call.receive()) is not None:
                assert isinstance(event, InputState)
                state = event
            await flood.task
        assert (flood.sent, True) == (state.accepted, state.ended)
        data = machine.outputs.sink(job).data
        assert LOTS <= len(data) == flood.sent
        assert all(data[at : at + len(PIECES)] == PIECES for at in range(0, len(data), len(PIECES)))


async def test_many_jobs_that_do_not_read(pki: Path) -> None:
    """However many calls of a connection wait, its others are answered, and their memory is bounded."""
    bounds = Bounds(max_request_memory_per_client=2 * INPUT_WINDOW)  # for two large windows
    async with bench(pki, bounds) as machine, machine.served.client() as client:
        for _ in range(2):
            jobs = [await machine.start("cat") for _ in range(4)]
            floods = []
            for job in jobs:
                machine.spawner.pause_reading(job)
                call = attach_once(client, job, session="", output={})
                floods.append((call, Flood(await call.__aenter__())))
            for _, flood in floods:
                await flood.stopped(client)
            sent = sum(flood.sent for _, flood in floods)
            assert sent <= 2 * INPUT_WINDOW + 4 * (WINDOW + MAX_STREAMED_REQUEST)
            for job in jobs:
                await Job(client, job).stop()
            for call, flood in floods:
                flood.task.cancel()
                await asyncio.gather(flood.task, return_exceptions=True)
                await call.__aexit__(None, None, None)
        assert 0 == machine.served.server._calls.requests.used


async def test_a_job_that_does_not_read_still_writes(pki: Path) -> None:
    """Its output arrives while its input waits."""
    async with bench(pki) as machine, machine.served.client() as client:
        job = await machine.start("noise")
        machine.spawner.pause_reading(job)
        size = 0
        async with attach_once(client, job, session="", output={Channel.OUTPUT: BEGINNING}) as call:
            flood = Flood(call)
            await flood.stopped(client)
            while size < NOISE:
                event = await call.receive()
                assert isinstance(event, ChannelChunk)
                size += len(event.chunk.data)
            flood.task.cancel()
            await asyncio.gather(flood.task, return_exceptions=True)


async def test_a_client_that_does_not_read_still_writes(pki: Path) -> None:
    """All of its input reaches the job, although it reads neither output nor states."""
    async with bench(pki) as machine, machine.served.client() as client:
        job = await machine.start("noise")
        async with attach_once(client, job, session="", output={Channel.OUTPUT: BEGINNING}) as call:
            flood = Flood(call)
            await flood.task
            await Job(client, job).wait()
        assert NOISE + flood.sent == len(machine.outputs.sink(job).data)


async def test_unread_output_does_not_delay_the_state_of_the_input(pki: Path) -> None:
    """Over the same connection, a call without output learns its progress while a stream is not read."""
    async with bench(pki) as machine, machine.served.client() as client:
        job = await machine.start("noise")
        chunks = Job(client, job).stream()
        await anext(chunks)
        current = client.calls._server.connection._channel.current
        assert current is not None
        window = current.connection._connection._inbound_flow_control_window_manager
        while window.current_window_size > 4096:
            assert await client.health()
        async with attach_once(client, job, session="", output={}) as call:
            for number in range(1000):
                await call.write(number, b"x")
                while (event := await call.receive()) != InputState(number + 1):
                    assert isinstance(event, InputState)
        await chunks.aclose()


async def test_a_client_that_reads_nothing_is_stalled(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its call ends as that of a stream does, and the input is free again."""
    async with bench(pki, Bounds(stalled_client_timeout=0.1)) as machine, machine.served.client() as client:
        job = await machine.start("noise")
        with pytest.raises(RpcError, match="Unavailable desc = the client has read too little output"):  # noqa: PT012
            async with attach_once(client, job, session="", output={Channel.OUTPUT: BEGINNING}) as call:
                while "ending a call" not in caplog.text:
                    assert await client.health()
                while await call.receive() is not None:
                    pass
        async with attach_once(client, job, session="", output={}):
            pass


async def test_our_client_reads_no_faster_than_the_job(pki: Path) -> None:
    """It keeps a bounded number of bytes, and waits for the server before it reads more."""
    async with restartable(pki) as machine, machine.client() as client:
        job = (await client.start(JobSpec("cat", stdin=True))).id
        machine.spawner.pause_reading(job)
        typed = Typed(*[PIECES] * 100, ended=True)
        attached = asyncio.ensure_future(_last(Job(client, job).attach(read=typed.read)))
        while typed.size < MOST_KEPT:
            assert await client.health()
        assert typed.size < MOST_KEPT + PIECE
        machine.spawner.resume_reading(job)
        state = await attached
        assert InputState(100 * len(PIECES), ended=True) == InputState(state.accepted, ended=state.ended)
        assert PIECES * 100 == bytes(machine.outputs.sink(job).data)


async def _last(events: AsyncIterator[object]) -> InputState:
    found = [event async for event in events]
    assert isinstance(found[-1], InputState)
    return found[-1]


async def test_kept_bytes_are_sent_again() -> None:
    """A cancelled read loses nothing; what was accepted is forgotten; the end is repeated."""
    typed = Typed(b"onetwo")
    pending = PendingInput(typed.read)
    assert 7 == pending.continue_at(InputState(7))
    assert b"onetwo" == await pending.piece_at(7)
    waiting = asyncio.ensure_future(pending.piece_at(13))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    typed.type(b"more", b"")
    assert 10 == pending.continue_at(InputState(10))
    assert b"two" == await pending.piece_at(10)
    assert b"more" == await pending.piece_at(13)
    assert b"" == await pending.piece_at(17)
    assert 17 == pending.continue_at(InputState(17, ended=True))
    assert b"" == await pending.piece_at(17)
