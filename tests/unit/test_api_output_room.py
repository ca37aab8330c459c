"""Room for output: counted until it is sent, short when there is none, and in turns after each chunk."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from worker.api.attach_messages import ChannelChunk
from worker.api.bounds import Bounds
from worker.api.byte_budget import ByteBudget
from worker.api.output_room import SHORT_CHUNK, OutputRoom
from worker.client.job import Job
from worker.core.engine.following import CHUNK_SIZE
from worker.core.model.channel import Channel
from worker.core.model.client_id import ClientId
from worker.core.model.job import JobSpec
from worker.core.model.stream_start import BEGINNING

from ..support.attaching import attach_once
from ..support.served import BINARY, serving

A, B = ClientId("a", "CN=1"), ClientId("a", "CN=2")


async def no_turn() -> None:
    """Do not wait."""


async def test_room_is_counted_until_the_chunk_is_sent() -> None:
    """For each copy; without room of the client or in total, chunks are short and do not count."""
    budget = ByteBudget(4 * CHUNK_SIZE, 6 * CHUNK_SIZE - 1, "s")
    room = {client: OutputRoom(budget, client, no_turn, copies=1) for client in (A, B)}
    text = OutputRoom(budget, A, no_turn, copies=3)
    async with text.next_chunk() as most:
        assert (CHUNK_SIZE, 3 * CHUNK_SIZE) == (most, budget.used)
        async with room[A].next_chunk() as of_same, room[B].next_chunk() as of_other:
            assert (SHORT_CHUNK, CHUNK_SIZE, 4 * CHUNK_SIZE) == (of_same, of_other, budget.used)
            async with room[B].next_chunk() as beyond:  # a quarter of the total is for other replies
                assert (SHORT_CHUNK, 4 * CHUNK_SIZE) == (beyond, budget.used)
        assert budget.try_take(A, CHUNK_SIZE)
        budget.release(A, CHUNK_SIZE)
    assert 0 == budget.used
    with pytest.raises(KeyError):
        async with text.next_chunk():
            raise KeyError
    assert 0 == budget.used


async def test_a_chunk_waits_for_a_turn_after_one_that_was_sent() -> None:
    """Nothing is counted while it waits; a read without output takes no turn."""
    budget = ByteBudget(4 * CHUNK_SIZE, 4 * CHUNK_SIZE, "s")
    turns: list[int] = []

    async def turn() -> None:
        turns.append(budget.used)

    room = OutputRoom(budget, A, turn, copies=1)
    for sends in (False, False, True, True, False, False):
        async with room.next_chunk():
            if sends:
                room.sent()
    assert [0, 0] == turns


@pytest.mark.parametrize("memory", [1, 1 << 20, 16 << 20])
async def test_streams_get_everything_whatever_the_memory(pki: Path, memory: int) -> None:
    """All kinds of streams, and the memory is given back at their end, also of those that are left."""
    bounds = Bounds(max_reply_memory_per_client=memory)
    async with serving(pki, bounds=bounds) as served, served.client() as client, asyncio.timeout(60):
        job = str(await client.start(JobSpec("binary")))
        running = str(await client.start(JobSpec("binary-and-sleep")))

        async def attached() -> bytes:
            output = b""
            async with attach_once(client, job, output={Channel.OUTPUT: BEGINNING}) as call:
                while (event := await call.receive()) is not None:
                    output += event.chunk.data if isinstance(event, ChannelChunk) else b""
            return output

        async def streamed() -> bytes:
            return b"".join([chunk.data async for chunk in Job(client, job).stream()])

        async def left() -> None:
            async with aclosing(Job(client, running).stream()) as chunks:
                await anext(chunks)

        found = await asyncio.gather(
            *(streamed() for _ in range(5)), attached(), *(left() for _ in range(5))
        )
        assert [BINARY] * 6 == found[:6]
        await Job(client, running).stop(grace=0)
        await client.list()
        assert 0 == served.server._calls._replies.used
