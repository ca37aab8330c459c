"""Attach over the wire: input once and in order, output beside it, one writer, and the end of a call."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from worker.api.attach_messages import ChannelChunk
from worker.api.bounds import Bounds
from worker.client.attachment import AttachCall, AttachEvent
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.model.ending import Channel
from worker.core.model.input import InputState
from worker.core.model.job import Chunk, JobSpec, new_job_id
from worker.core.model.stream_start import BEGINNING, FromOffset, LastBytes
from worker.core.testing import FakeLimiter, FakeProgram, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker

from ..support.attaching import attach_once
from ..support.clients import impatient
from ..support.served import serving

CAT = JobSpec("cat", stdin=True)
ALL = {Channel.OUTPUT: BEGINNING}


class Bench:
    """A Worker over fakes, whose spawner a test can reach."""

    def __init__(self) -> None:
        programs = {
            "cat": lambda _: FakeProgram(copies_input=True),
            "sleep": lambda args: FakeProgram(seconds=float(args[0])),
            "noisy": lambda _: FakeProgram(output=bytes(10_000_000), copies_input=True),
            "talk": lambda _: FakeProgram(output=b"out", errors=b"err", copies_input=True),
        }
        self.spawner, self.outputs = FakeSpawner(programs=programs), MemoryOutputStore()
        self.worker = Worker(spawner=self.spawner, limiter=FakeLimiter(), outputs=self.outputs)


async def rest(call: AttachCall) -> list[AttachEvent]:
    """Return the events of a call until its end."""
    events = []
    while (event := await call.receive()) is not None:
        events.append(event)
    return events


async def accepted(call: AttachCall, offset: int) -> InputState:
    """Read events until the server has accepted the input up to an offset, and return its state."""
    while True:
        event = await call.receive()
        if isinstance(event, InputState) and event.accepted >= offset:
            return event


async def test_input_and_output_in_one_call(pki: Path) -> None:
    """A client writes, gets the output meanwhile, ends the input, and the call ends with the job."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(CAT))
        async with attach_once(client, job, session="", output=ALL) as call:
            assert InputState() == call.input
            await call.write(0, b"\0one")
            events = [await call.receive(), await call.receive()]
            assert {InputState(4), ChannelChunk(Channel.OUTPUT, Chunk(0, b"\0one"))} == set(events)
            await call.write(4, b"two", end=True)
            events = await rest(call)
        chunks = [each for each in events if isinstance(each, ChannelChunk)]
        states = [each for each in events if isinstance(each, InputState)]
        assert [ChannelChunk(Channel.OUTPUT, Chunk(4, b"two"))] == chunks
        assert InputState(7, ended=True, closed="the job has ended") == states[-1]
        assert states in (states[-1:], [InputState(7, ended=True), states[-1]])


async def test_a_writer_without_output(pki: Path) -> None:
    """The call ends when the client has ended its side; the input stays open and another call continues."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(CAT))
        for offset, data in ((0, b"one"), (3, b"two")):
            async with attach_once(client, job, session="", output={}) as call:
                assert InputState(offset) == call.input
                await call.write(offset, data)
                await call.leave()
                assert [InputState(offset + 3)] == await rest(call)
        async with attach_once(client, job, session="", output={}) as call:
            await call.write(6, b"", end=True)
            events = await rest(call)
        assert InputState(6, ended=True, closed="the job has ended") == events[-1]
        assert b"onetwo" == b"".join([chunk.data async for chunk in Job(client, job).stream()])


async def test_watchers_get_each_channel_from_its_start(pki: Path) -> None:
    """Any number of clients watch; a tail begins with an empty chunk that has its offset."""
    bench = Bench()
    async with serving(pki, bench.worker) as served, served.client() as client, AsyncExitStack() as calls:
        job = (await client.start(JobSpec("talk", stdin=True, split_output=True))).id
        output = {Channel.STDOUT: LastBytes(0), Channel.STDERR: FromOffset(1)}
        watching = [
            await calls.enter_async_context(attach_once(client, job, output=output)) for _ in range(3)
        ]
        first = [{await call.receive(), await call.receive()} for call in watching]
        assert [None] * 3 == [call.input for call in watching]
        start = {ChannelChunk(Channel.STDOUT, Chunk(3, b"")), ChannelChunk(Channel.STDERR, Chunk(1, b"rr"))}
        assert [start] * 3 == first
        async with attach_once(client, job, session="", output={}) as writer:
            await writer.write(0, b"more", end=True)
            await rest(writer)
        for call in watching:
            assert [ChannelChunk(Channel.STDOUT, Chunk(3, b"more"))] == await rest(call)


async def test_a_job_that_closes_its_stdin(pki: Path) -> None:
    """The client learns why, further input is discarded, and the call goes on with output."""
    bench = Bench()
    async with serving(pki, bench.worker) as served, served.client() as client:
        job = (await client.start(CAT)).id
        async with attach_once(client, job, session="", output=ALL) as call:
            await call.write(0, b"one")
            await accepted(call, 3)
            bench.spawner.close_input(job)
            await call.write(3, b"two")
            closed = await accepted(call, 3)
            while not closed.closed:
                closed = await accepted(call, 3)
            assert InputState(3, closed="the job has closed its stdin") == closed
            bench.outputs.sink(job).write(b"still here")
            bench.spawner.kill(job, 9)
            received = [each for each in await rest(call) if isinstance(each, ChannelChunk)]
        assert b"still here" == b"".join(each.chunk.data for each in received)[-10:]


async def test_a_finished_job(pki: Path) -> None:
    """A client that attaches too late gets all output, and the reason why there is no input."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(JobSpec("echo", ["done"])))
        await Job(client, job).wait()
        async with attach_once(client, job, session="", output=ALL) as call:
            assert InputState(closed="the process is already finished") == call.input
            await call.write(0, b"lost")
            events = await rest(call)
        assert [ChannelChunk(Channel.OUTPUT, Chunk(0, b"done\n"))] == [
            each for each in events if isinstance(each, ChannelChunk)
        ]


async def test_one_writer(pki: Path) -> None:
    """A second writer is refused; the same session replaces the first, whose late input is refused."""
    async with serving(pki) as served, served.client() as first, served.client() as second:
        job = str(await first.start(CAT))
        with pytest.raises(RpcError, match=r"FailedPrecondition desc = another client writes to the stdin"):  # noqa: PT012
            async with attach_once(first, job, session="mine", output={}) as lost:
                await lost.write(0, b"one")
                await accepted(lost, 3)
                for session in ("", "yours"):
                    with pytest.raises(RpcError, match="another client writes to the stdin of job"):
                        async with attach_once(second, job, session=session, output={}):
                            raise AssertionError("two writers")
                async with attach_once(second, job, session="mine", output={}) as call:
                    assert InputState(3) == call.input
                    await call.write(3, b"two")
                    await accepted(call, 6)
                await lost.write(3, b"late")
                await rest(lost)


async def test_offsets_that_do_not_fit(pki: Path) -> None:
    """A gap and input after the end are OUT_OF_RANGE; repeated bytes are skipped."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"], stdin=True)))
        async with attach_once(client, job, session="", output={}) as call:
            await call.write(0, b"one")
            await call.write(1, b"netwo")
            assert InputState(6) == await accepted(call, 6)
        with pytest.raises(RpcError, match="OutOfRange desc = the input continues at byte 6, not at 7"):  # noqa: PT012
            async with attach_once(client, job, session="", output=ALL) as call:
                await call.write(7, b"x")
                await rest(call)
        with pytest.raises(RpcError, match="OutOfRange desc = the input has ended at byte 6"):  # noqa: PT012
            async with attach_once(client, job, session="", output={}) as call:
                await call.write(6, b"", end=True)
                await call.write(6, b"x")
                await rest(call)


async def test_an_error_does_not_wait_for_the_output(pki: Path) -> None:
    """A job that writes all the time does not hide that the input is refused."""
    bench = Bench()
    async with serving(pki, bench.worker) as served, served.client() as client:
        job = (await client.start(CAT)).id
        sink = bench.outputs.sink(job)
        sink.write(bytes(1 << 20))
        with pytest.raises(RpcError, match="OutOfRange"):  # noqa: PT012
            async with attach_once(client, job, session="", output=ALL) as call:
                await call.write(1, b"x")
                while True:
                    assert await call.receive() is not None
                    sink.write(bytes(1 << 18))


async def test_attached_clients_are_counted(pki: Path) -> None:
    """They count as streams, however many connections they use."""
    bounds = Bounds(max_streams_per_client=1)
    async with serving(pki, bounds=bounds) as served, served.client() as first, served.client() as second:
        job = str(await first.start(CAT))
        async with attach_once(first, job, output=ALL):
            with pytest.raises(RpcError, match="ResourceExhausted desc = 'writer' has 1 streams open"):
                async with attach_once(second, job, session="", output={}):
                    raise AssertionError("attached")


async def test_a_shutdown_ends_the_call(pki: Path) -> None:
    """The status is UNAVAILABLE, and the message says how to continue."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(CAT))
        with pytest.raises(RpcError, match=r"Unavailable desc = .* attach again with the same session"):  # noqa: PT012
            async with attach_once(client, job, session="mine", output=ALL) as call:
                await served.server.shut_down(timeout=10)
                await rest(call)


async def test_a_lost_connection_frees_the_input(pki: Path) -> None:
    """Another client can write once the server has noticed it."""
    async with serving(pki) as served, served.client() as other:
        job = str(await other.start(CAT))
        client = await impatient(served.host, served.port, served.context()).__aenter__()
        with pytest.raises(ServerUnreachable):  # noqa: PT012
            async with attach_once(client, job, session="mine", output={}) as call:
                await client.__aexit__(None, None, None)
                await rest(call)
        while True:
            try:
                async with attach_once(other, job, session="", output={}) as call:
                    assert InputState() == call.input
                    return
            except RpcError as error:
                if "another client writes" not in error.message:
                    raise


@pytest.mark.parametrize("session", ["", None])
async def test_an_unknown_job(pki: Path, session: str | None) -> None:
    """Watching and writing fail alike."""
    async with serving(pki) as served, served.client() as client:
        with pytest.raises(RpcError, match=r"NotFound desc = Job .* not found"):
            async with attach_once(client, new_job_id(), session=session, output=ALL):
                raise AssertionError("attached")


async def test_a_job_without_stdin(pki: Path) -> None:
    """It can be watched, and has no input."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"])))
        async with attach_once(client, job, output=ALL) as call:
            assert call.input is None
        with pytest.raises(
            RpcError, match=r"FailedPrecondition desc = .* was started without an open stdin"
        ):
            async with attach_once(client, job, session="", output=ALL):
                raise AssertionError("attached")
