"""Calls over lost connections and restarted servers: each is carried out once, each byte arrives once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.errors import SpawnerUnavailable
from worker.core.model.ending import Channel
from worker.core.model.job import (
    Chunk,
    JobSpec,
    JobState,
    new_job_id,
)
from worker.core.model.stream_start import LastBytes, LastLines, StreamStart
from worker.core.model.stream_times import StreamTimes
from worker.core.worker import Worker

from ..support.examples import examples
from ..support.restarted import Wire, serving
from ..support.served import BINARY


def joined(chunks: Sequence[Chunk]) -> bytes:
    """Return the bytes of chunks, each of which must begin at the end of the previous one."""
    position = 0
    for chunk in chunks:
        assert position == chunk.offset
        position += len(chunk.data)
    return b"".join(chunk.data for chunk in chunks)


@settings(max_examples=examples(20), deadline=None)
# At most four breaks in a row: a client raises the error of the fifth call that fails at once.
@given(budgets=st.lists(st.integers(1, 5_000) | st.integers(1, 300_000), max_size=3))
async def test_at_whichever_byte_connections_break(pki: Path, budgets: list[int]) -> None:
    """Whichever answers are lost, a job is started once, stopped, removed, and streamed byte for byte."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            assert await client.health()
            wire.cut(budgets)
            writer = str(await client.start(JobSpec("binary")))
            assert BINARY == joined([chunk async for chunk in Job(client, writer).stream()])
            sleeper = str(await client.start(JobSpec("sleep", ["1000"])))
            await Job(client, sleeper).stop()
            assert JobState.EXITED is (await Job(client, sleeper).wait()).state
            assert {writer, sleeper} == {str(each.record.id) for each in await client.list()}
            await Job(client, sleeper).remove()
            assert [writer] == [str(each.record.id) for each in await client.list()]


@settings(max_examples=examples(10), deadline=None)
@given(budgets=st.lists(st.integers(1, 300_000), max_size=3))
async def test_a_stream_with_times_over_breaking_connections(pki: Path, budgets: list[int]) -> None:
    """It begins at its time once, and each chunk has a time until the end."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            assert await client.health()
            job = str(await client.start(JobSpec("binary")))
            wire.cut(budgets)
            times = StreamTimes(since_ms=1, timestamps=True)
            chunks = [chunk async for chunk in Job(client, job).stream(times=times)]
            assert BINARY == joined(chunks)
            assert all(chunk.time_ms > 1 for chunk in chunks if chunk.data)


async def test_a_start_whose_answer_is_lost(pki: Path) -> None:
    """It is repeated with its request id, so there is one job."""
    answered = asyncio.Event()

    class Unanswering(Worker):
        async def start(self, *args: Any, **kwargs: Any) -> Any:
            job = await super().start(*args, **kwargs)
            if not answered.is_set():
                answered.set()
                await asyncio.sleep(1000)
            return job

    async with serving(pki, Unanswering) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            starting = asyncio.create_task(client.start(JobSpec("sleep", ["1000"])))
            await answered.wait()
            wire.cut([])
            job = await starting
            assert [job.id] == [each.record.id for each in await client.list()]


async def test_a_signal_is_not_repeated(pki: Path) -> None:
    """If the answer is lost it is unknown whether the signal was sent; sending it twice could do harm."""
    signalled = asyncio.Event()
    signals = 0

    class Unanswering(Worker):
        async def signal(self, *_: Any, **__: Any) -> None:
            nonlocal signals
            signals += 1
            signalled.set()
            await asyncio.sleep(1000)

    async with serving(pki, Unanswering) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
            calling = asyncio.ensure_future(Job(client, job).signal(1))
            await signalled.wait()
            wire.cut([])
            with pytest.raises(ServerUnreachable, match="it is unknown whether the signal was sent"):
                await calling
            assert 1 == signals
            assert JobState.RUNNING is (await client.query(job)).state


@pytest.mark.parametrize("verb", ["stop", "remove"])
async def test_a_repetition_of_a_call_that_was_carried_out(pki: Path, verb: str) -> None:
    """It succeeds when the job is already finished or removed; for a first call that is an error."""
    done = asyncio.Event()

    class Unanswering(Worker):
        async def stop(self, *args: Any, **kwargs: Any) -> None:
            await super().stop(*args, **kwargs)
            await self._block_once()

        async def remove(self, *args: Any, **kwargs: Any) -> None:
            await super().remove(*args, **kwargs)
            await self._block_once()

        async def _block_once(self) -> None:
            if not done.is_set():
                done.set()
                await asyncio.sleep(1000)

    async with serving(pki, Unanswering) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            job = await client.start("sleep", "1000" if verb == "stop" else "0")
            if verb == "remove":
                await job.wait()
            call = job.stop if verb == "stop" else job.remove
            calling = asyncio.ensure_future(call())
            await done.wait()
            wire.cut([])
            await calling
            with pytest.raises(RpcError, match=r"FailedPrecondition|NotFound"):
                await call()


async def test_streams_and_waits_resume_at_the_next_server(pki: Path) -> None:
    """All calls wait for a server that restarts, and each restart is reported once."""
    async with serving(pki) as server:
        async with server.client() as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            chunks = Job(client, job).stream()
            assert Chunk(0, b"12345") == await anext(chunks)
            waiting = asyncio.create_task(Job(client, job).wait())
            rest = asyncio.create_task(collect(chunks))
            for _ in range(3):
                await asyncio.sleep(0.05)  # so that usually both calls have been made
                await server.down()
                await server.up()
            await Job(client, job).stop()
            assert [] == await rest
            assert JobState.EXITED is (await waiting).state
        assert ["back"] * (len(server.notices) // 2) == server.notices[1::2]
        reason = "rpc error: code = Unavailable desc = the server is shutting down; the job keeps running"
        assert {reason} >= {
            message.partition(",")[0] for message in server.notices[::2] if "shutting down" in message
        }
        assert 1 <= len(server.notices) // 2 <= 3


async def collect(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    """Return all chunks."""
    return [chunk async for chunk in chunks]


@pytest.mark.parametrize("tail", [LastLines(0), LastBytes(2)])
async def test_a_tail_is_resolved_once(pki: Path, tail: StreamStart) -> None:
    """Output written while the server is down is part of the stream, also of an empty tail."""
    async with serving(pki) as server, server.client() as client:
        job = (await client.start(JobSpec("write-and-sleep"))).id
        chunks = Job(client, job).stream(start=tail)
        first = await anext(chunks)
        assert b"" == first.data
        await server.down()
        server.outputs.sink(job, Channel.OUTPUT).write(b"more\n")
        await server.up()
        await Job(client, job).stop()
        received = b"".join(chunk.data for chunk in await collect(chunks))
        assert b"12345more\n"[first.offset :] == received


async def test_output_that_is_deleted_meanwhile(pki: Path) -> None:
    """The offset of the next chunk is that of the first kept byte."""
    async with serving(pki) as server, server.client() as client:
        job = (await client.start(JobSpec("write-and-sleep"))).id
        chunks = Job(client, job).stream()
        await anext(chunks)
        await server.down()
        server.outputs.sink(job, Channel.OUTPUT).write(b"6789")
        server.outputs.drop_before(job, Channel.OUTPUT, 7)
        await server.up()
        await Job(client, job).stop()
        assert [Chunk(7, b"89")] == await collect(chunks)


async def test_a_server_that_never_answered(pki: Path) -> None:
    """The client does not wait for it."""
    async with serving(pki) as server:
        await server.down()
        async with server.client() as client:
            with pytest.raises(ServerUnreachable, match="connection refused"):
                await client.query(str(new_job_id()))
        assert (1, []) == (server.connections, server.notices)


async def test_a_server_that_dies_before_its_first_answer(pki: Path) -> None:
    """The client connects again; a server that closes twice without an answer rejects its certificate."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port:
            wire.cut([1])
            async with server.client() as client:
                assert await client.health()
            wire.cut([1, 1])
            async with server.client() as client:
                with pytest.raises(ServerUnreachable):
                    await client.health()
        assert [] == server.notices


async def test_the_patience_is_bounded(pki: Path) -> None:
    """If the server stays down, the client raises the last error; later calls make one attempt."""
    async with serving(pki) as server:
        async with server.client(patience=0.3) as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            chunks = Job(client, job).stream()
            await anext(chunks)
            await server.down()
            for call in (anext(chunks), client.query(job)):
                with pytest.raises(ServerUnreachable, match="connection refused"):
                    await call
        assert 1 == len(server.notices)


async def test_no_patience(pki: Path) -> None:
    """No call is repeated."""
    async with serving(pki) as server:
        async with server.client(patience=0) as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            waiting = asyncio.create_task(Job(client, job).wait())
            assert await client.health()
            await server.down()
            with pytest.raises(RpcError, match="the server is shutting down; the job keeps running"):
                await waiting
        assert (1, []) == (server.connections, server.notices)


async def test_a_rejection_is_final(pki: Path) -> None:
    """Only UNAVAILABLE is repeated."""
    async with serving(pki) as server:
        async with server.client() as client:
            unknown = str(new_job_id())
            for call in (
                client.query(unknown),
                Job(client, unknown).stop(),
                Job(client, unknown).remove(),
                anext(Job(client, unknown).stream()),
                client.start(JobSpec("no-such-command")),
            ):
                with pytest.raises(RpcError, match=r"NotFound|InvalidArgument"):
                    await call
        assert (1, []) == (server.connections, server.notices)


async def test_concurrent_calls_of_a_repeated_call(pki: Path) -> None:
    """They resume over the next connection, and distinguish this from a cancellation."""

    class UnableOnce(Worker):
        starts = 0

        async def start(self, *args: Any, **kwargs: Any) -> Any:
            self.starts += 1
            if self.starts == 2:
                raise SpawnerUnavailable("the supervisor does not start")
            return await super().start(*args, **kwargs)

    async with serving(pki, UnableOnce) as server, server.client() as client:
        job = str(await client.start(JobSpec("write-and-sleep")))
        chunks = Job(client, job).stream()
        first = await anext(chunks)
        rest = asyncio.ensure_future(anext(chunks, None))
        waiting = asyncio.ensure_future(Job(client, job).wait())
        assert await client.health()  # by now the server has both requests
        await client.start(JobSpec("sleep", ["0"]))
        assert 2 == server.connections
        await Job(client, job).stop()
        assert (b"12345", None) == (first.data, await rest)
        assert JobState.EXITED is (await waiting).state


async def test_a_server_that_keeps_failing(pki: Path) -> None:
    """After a few attempts the client raises the error; once a call succeeds it stops repeating."""
    calls = 0

    class Unable(Worker):
        async def start(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != 9:
                raise SpawnerUnavailable("the supervisor does not start")
            return await super().start(*args, **kwargs)

    async with serving(pki, Unable) as server:
        async with server.client() as client:
            with pytest.raises(RpcError, match="Unavailable desc = the supervisor does not start"):
                await client.start(JobSpec("sleep", ["0"]))
            assert 5 == calls
            await client.start(JobSpec("sleep", ["0"]))
        assert [] == server.notices
