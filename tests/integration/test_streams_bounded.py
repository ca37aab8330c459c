"""Streams of output of which only the latest is kept: every chunk is correct for its offset."""

import asyncio
import json
import sys
from array import array
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.client.job import Job
from worker.core.model.job import SMALLEST_OUTPUT, Chunk, JobSpec
from worker.core.model.stream_start import FromOffset

MOST = 1 << 20
"""Maximum numbers written at once."""

# Writes numbers of four bytes, each equal to its position; then waits for a file, or pauses.
WRITER = """
import json, os, sys, time
from array import array
position = 0
for count, then in json.loads(sys.argv[1]):
    data = array("I", range(position, position + count)).tobytes()
    position += count
    while data:
        data = data[os.write(1, data):]
    while isinstance(then, str) and not os.path.exists(then):
        time.sleep(0.01)
    time.sleep(0 if isinstance(then, str) else then)
"""

Plan = list[tuple[int, float | str]]

plans = st.lists(st.tuples(st.integers(1, MOST), st.sampled_from([0.0, 0.01, 0.1])), min_size=1, max_size=6)
clients = st.lists(
    st.tuples(st.sampled_from([0.0, 0.05, 0.3]), st.floats(0, 1), st.sampled_from([0.0, 0.02])),
    min_size=1,
    max_size=5,
)


def writing(plan: Plan) -> JobSpec:
    """Return a job that writes by a plan; as little as possible of its output is kept."""
    return JobSpec(sys.executable, ["-c", WRITER, json.dumps(plan)], output_max=SMALLEST_OUTPUT)


@pytest.fixture(scope="module")
def whole() -> bytes:
    """The longest output of the jobs in this module."""
    return array("I", range(8 * MOST)).tobytes()


async def read(
    chunks: AsyncGenerator[Chunk, None], whole: bytes, position: int, pause: float
) -> tuple[int, int]:
    """Read to the end; return its offset and the number of bytes that were skipped."""
    missed = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            assert position <= chunk.offset
            missed += chunk.offset - position
            position = chunk.offset + len(chunk.data)
            assert whole[chunk.offset : position] == chunk.data
            await asyncio.sleep(pause)  # the speed of a client is part of the example
    return position, missed


@settings(max_examples=12, deadline=None, print_blob=True)
@given(plan=plans, clients=clients)
async def test_every_byte_is_at_its_offset(
    shared: Any, whole: bytes, plan: Plan, clients: list[tuple[float, float, float]]
) -> None:
    """This holds for any start, offset and speed of the clients, while segments are deleted."""
    size = 4 * sum(count for count, _ in plan)

    async def follow(job: str, delay: float, part: float, pause: float) -> int:
        await asyncio.sleep(delay)  # so is the time at which it connects
        offset = int(part * size)
        async with shared.client() as client:
            end, _ = await read(Job(client, job).stream(start=FromOffset(offset)), whole, offset, pause)
        return end

    async with shared.client() as client:
        job = str(await client.start(writing(plan)))
        assert {size} == set(await asyncio.gather(*(follow(job, *each) for each in clients)))
        await Job(client, job).wait()
        await Job(client, job).remove()


async def test_a_paused_client_misses_deleted_output(shared: Any, whole: bytes, tmp_path: Path) -> None:
    """It continues with the first kept byte, at its offset; the job does not wait for the client."""
    gate = tmp_path / "gate"
    plan: Plan = [(1000, str(gate)), *[(MOST, 0.0)] * 7]  # more than fits between client and server
    async with shared.client() as client, shared.client() as slow:
        job = str(await client.start(writing(plan)))
        async with aclosing(Job(slow, job).stream()) as chunks:
            first = await anext(chunks)
            assert whole[: len(first.data)] == first.data
            gate.touch()
            await Job(client, job).wait()
            end, missed = await read(chunks, whole, len(first.data), 0)
    assert 4 * (1000 + 7 * MOST) == end
    assert 0 < missed < end - SMALLEST_OUTPUT // 2
