"""Calls over lost connections and restarted servers: each is carried out once, each byte comes once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.api.client import RpcError, ServerUnreachable
from worker.core.errors import SpawnerUnavailable
from worker.core.model.ending import Channel
from worker.core.model.job import (
    Chunk,
    JobSpec,
    JobState,
    new_job_id,
)
from worker.core.model.stream_start import LastBytes, LastLines, StreamStart
from worker.core.worker import Worker

from ..support.restarted import Machine, Wire, run
from ..support.served import BINARY


def joined(chunks: Sequence[Chunk]) -> bytes:
    """Return all bytes of chunks of which each begins where the one before ended."""
    position = 0
    for chunk in chunks:
        assert position == chunk.offset
        position += len(chunk.data)
    return b"".join(chunk.data for chunk in chunks)


@settings(max_examples=20, deadline=None)
# The first cut and these: a client raises the error of the fifth call in a row that fails at once.
@given(budgets=st.lists(st.integers(1, 5_000) | st.integers(1, 300_000), max_size=3))
def test_wherever_the_wire_breaks(pki: Path, budgets: list[int]) -> None:
    """Whatever answers are lost, a job is started once, stopped, removed, and streamed byte for byte."""

    async def scenario(machine: Machine) -> None:
        wire = Wire(machine.port)
        async with wire.open() as machine.port, machine.client() as client:
            assert await client.health()
            wire.cut(budgets)
            writer = str(await client.start(JobSpec("binary")))
            assert BINARY == joined([chunk async for chunk in client.stream(writer)])
            sleeper = str(await client.start(JobSpec("sleep", ["1000"])))
            await client.stop(sleeper)
            assert JobState.EXITED is (await client.wait(sleeper)).state
            assert {writer, sleeper} == {str(each.record.id) for each in await client.list()}
            await client.remove(sleeper)
            assert [writer] == [str(each.record.id) for each in await client.list()]

    run(pki, scenario)


def test_a_start_whose_answer_is_lost(pki: Path) -> None:
    """It is repeated with its request id, and there is one job."""
    answered = asyncio.Event()

    class Forgetful(Worker):
        async def start(self, *args: Any, **kwargs: Any) -> Any:
            job = await super().start(*args, **kwargs)
            if not answered.is_set():
                answered.set()
                await asyncio.sleep(1000)
            return job

    async def scenario(machine: Machine) -> None:
        wire = Wire(machine.port)
        async with wire.open() as machine.port, machine.client() as client:
            starting = asyncio.create_task(client.start(JobSpec("sleep", ["1000"])))
            await answered.wait()
            wire.cut([])
            job = await starting
            assert [job] == [each.record.id for each in await client.list()]

    run(pki, scenario, Forgetful)


@pytest.mark.parametrize("verb", ["stop", "remove"])
def test_what_was_done_but_not_answered_is_done(pki: Path, verb: str) -> None:
    """A repetition that finds the job over, or gone, is a success; a first call that does is an error."""
    done = asyncio.Event()

    class Forgetful(Worker):
        async def stop(self, *args: Any, **kwargs: Any) -> None:
            await super().stop(*args, **kwargs)
            await self._forget_to_answer()

        async def remove(self, *args: Any, **kwargs: Any) -> None:
            await super().remove(*args, **kwargs)
            await self._forget_to_answer()

        async def _forget_to_answer(self) -> None:
            if not done.is_set():
                done.set()
                await asyncio.sleep(1000)

    async def scenario(machine: Machine) -> None:
        wire = Wire(machine.port)
        async with wire.open() as machine.port, machine.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000" if verb == "stop" else "0"])))
            if verb == "remove":
                await client.wait(job)
            call = client.stop if verb == "stop" else client.remove
            calling = asyncio.ensure_future(call(job))
            await done.wait()
            wire.cut([])
            await calling
            with pytest.raises(RpcError, match=r"FailedPrecondition|NotFound"):
                await call(job)

    run(pki, scenario, Forgetful)


def test_streams_and_waits_go_on_at_the_next_server(pki: Path) -> None:
    """A server that drains is waited for by all calls together, and told of once each time."""

    async def scenario(machine: Machine) -> None:
        async with machine.client() as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            chunks = client.stream(job)
            assert Chunk(0, b"12345") == await anext(chunks)
            waiting = asyncio.create_task(client.wait(job))
            rest = asyncio.create_task(collect(chunks))
            for _ in range(3):
                await asyncio.sleep(0.05)  # so that both calls have been made, mostly
                await machine.down()
                await machine.up()
            await client.stop(job)
            assert [] == await rest
            assert JobState.EXITED is (await waiting).state
        assert ["back"] * (len(machine.notices) // 2) == machine.notices[1::2]
        assert {"rpc error: code = Unavailable desc = the server is shutting down; the job goes on"} >= {
            message.partition(",")[0] for message in machine.notices[::2] if "shutting down" in message
        }
        assert 1 <= len(machine.notices) // 2 <= 3

    run(pki, scenario)


async def collect(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    """Return all that comes."""
    return [chunk async for chunk in chunks]


@pytest.mark.parametrize("tail", [LastLines(0), LastBytes(2)])
def test_a_tail_is_resolved_once(pki: Path, tail: StreamStart) -> None:
    """What is written while the server is away belongs to the stream, also of a tail that was empty."""

    async def scenario(machine: Machine) -> None:
        async with machine.client() as client:
            job = await client.start(JobSpec("write-and-sleep"))
            chunks = client.stream(str(job), start=tail)
            first = await anext(chunks)
            assert b"" == first.data
            await machine.down()
            machine.outputs.sink(job, Channel.OUTPUT).write(b"more\n")
            await machine.up()
            await client.stop(str(job))
            received = b"".join(chunk.data for chunk in await collect(chunks))
            assert b"12345more\n"[first.offset :] == received

    run(pki, scenario)


def test_output_that_is_dropped_meanwhile(pki: Path) -> None:
    """The offset of the next chunk tells how many bytes are no longer kept."""

    async def scenario(machine: Machine) -> None:
        async with machine.client() as client:
            job = await client.start(JobSpec("write-and-sleep"))
            chunks = client.stream(str(job))
            await anext(chunks)
            await machine.down()
            machine.outputs.sink(job, Channel.OUTPUT).write(b"6789")
            machine.outputs.drop_before(job, Channel.OUTPUT, 7)
            await machine.up()
            await client.stop(str(job))
            assert [Chunk(7, b"89")] == await collect(chunks)

    run(pki, scenario)


def test_a_server_that_was_never_there(pki: Path) -> None:
    """It is not waited for."""

    async def scenario(machine: Machine) -> None:
        await machine.down()
        async with machine.client() as client:
            with pytest.raises(ServerUnreachable, match="connection refused"):
                await client.query(str(new_job_id()))
        assert (1, []) == (machine.connections, machine.notices)

    run(pki, scenario)


def test_a_server_that_dies_before_its_first_word(pki: Path) -> None:
    """It was there, so another is waited for; one that stays silent is taken to refuse this client."""

    async def scenario(machine: Machine) -> None:
        wire = Wire(machine.port)
        async with wire.open() as machine.port:
            wire.cut([1])
            async with machine.client() as client:
                assert await client.health()
            wire.cut([1, 1])
            async with machine.client() as client:
                with pytest.raises(ServerUnreachable):
                    await client.health()
        assert [] == machine.notices

    run(pki, scenario)


def test_patience_ends(pki: Path) -> None:
    """A server that stays away is given up with the reason of the last try; later calls try once."""

    async def scenario(machine: Machine) -> None:
        async with machine.client(patience=0.3) as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            chunks = client.stream(job)
            await anext(chunks)
            await machine.down()
            for call in (anext(chunks), client.query(job)):
                with pytest.raises(ServerUnreachable, match="connection refused"):
                    await call
        assert 1 == len(machine.notices)

    run(pki, scenario)


def test_no_patience_at_all(pki: Path) -> None:
    """Nothing is repeated then."""

    async def scenario(machine: Machine) -> None:
        async with machine.client(patience=0) as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            waiting = asyncio.create_task(client.wait(job))
            assert await client.health()
            await machine.down()
            with pytest.raises(RpcError, match="the server is shutting down; the job goes on"):
                await waiting
        assert (1, []) == (machine.connections, machine.notices)

    run(pki, scenario)


def test_what_the_server_refuses_is_final(pki: Path) -> None:
    """Only UNAVAILABLE is worth another try."""

    async def scenario(machine: Machine) -> None:
        async with machine.client() as client:
            unknown = str(new_job_id())
            for call in (
                client.query(unknown),
                client.stop(unknown),
                client.remove(unknown),
                anext(client.stream(unknown)),
                client.start(JobSpec("no-such-command")),
            ):
                with pytest.raises(RpcError, match=r"NotFound|InvalidArgument"):
                    await call
        assert (1, []) == (machine.connections, machine.notices)

    run(pki, scenario)


def test_calls_beside_one_that_is_repeated(pki: Path) -> None:
    """They go on over the next connection, and know that from a cancellation by somebody else."""

    class UnableOnce(Worker):
        starts = 0

        async def start(self, *args: Any, **kwargs: Any) -> Any:
            self.starts += 1
            if self.starts == 2:
                raise SpawnerUnavailable("the supervisor does not start")
            return await super().start(*args, **kwargs)

    async def scenario(machine: Machine) -> None:
        async with machine.client() as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            chunks = client.stream(job)
            first = await anext(chunks)
            rest = asyncio.ensure_future(anext(chunks, None))
            waiting = asyncio.ensure_future(client.wait(job))
            assert await client.health()  # by now both are asked for
            await client.start(JobSpec("sleep", ["0"]))
            assert 2 == machine.connections
            await client.stop(job)
            assert (b"12345", None) == (first.data, await rest)
            assert JobState.EXITED is (await waiting).state

    run(pki, scenario, UnableOnce)


def test_a_server_that_is_up_but_cannot(pki: Path) -> None:
    """After a few tries it is believed; one that can again is not asked further."""
    calls = 0

    class Unable(Worker):
        async def start(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != 9:
                raise SpawnerUnavailable("the supervisor does not start")
            return await super().start(*args, **kwargs)

    async def scenario(machine: Machine) -> None:
        async with machine.client() as client:
            with pytest.raises(RpcError, match="Unavailable desc = the supervisor does not start"):
                await client.start(JobSpec("sleep", ["0"]))
            assert 5 == calls
            await client.start(JobSpec("sleep", ["0"]))
        assert [] == machine.notices

    run(pki, scenario, Unable)
