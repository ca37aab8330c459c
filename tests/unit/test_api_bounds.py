"""The limits on open streams, per client and in all."""

import asyncio
from contextlib import AsyncExitStack, ExitStack, aclosing
from pathlib import Path

import pytest

from worker.api.bounds import Bounds, StreamSlots
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.errors import QuotaExceeded
from worker.core.model.client_id import ClientId
from worker.core.model.job import Chunk, JobSpec, JobState

from ..support.served import serving

A, B, C = ClientId("a", "CN=1"), ClientId("a", "CN=2"), ClientId("c", "CN=1")
"""Two of them have the same name."""


def test_the_streams_of_a_client_are_bounded() -> None:
    """The error names the setting; a released slot is free again; other clients have their own slots."""
    slots = StreamSlots(Bounds(max_streams=100, max_streams_per_client=2))
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(slots.taken(A))
        with pytest.raises(QuotaExceeded, match=r"'a' has 2 streams open.*setting max_streams_per_client"):
            held.enter_context(slots.taken(A))
        held.enter_context(slots.taken(B))
    with slots.taken(A), slots.taken(A):
        pass


def test_the_streams_of_all_clients_are_bounded() -> None:
    """The bound also applies to a client with few streams."""
    slots = StreamSlots(Bounds(max_streams=2, max_streams_per_client=2))
    with slots.taken(A):
        with slots.taken(B), pytest.raises(QuotaExceeded, match=r"2 streams are open.*max_streams\)"):
            slots.taken(C).__enter__()
        with slots.taken(C):
            pass


async def test_one_connection_is_enough_for_all_streams_of_a_client(pki: Path) -> None:
    """The next stream is rejected and does not wait; other calls are answered meanwhile."""
    most = 150  # the usual limit of HTTP/2 is 100
    async with (
        serving(pki, bounds=Bounds(max_streams_per_client=most)) as served,
        served.client() as client,
        AsyncExitStack() as open_streams,
        asyncio.timeout(60),
    ):
        job = str(await client.start(JobSpec("write-and-sleep")))
        for _ in range(most):
            stream = await open_streams.enter_async_context(aclosing(Job(client, job).stream()))
            assert Chunk(0, b"12345") == await anext(stream)
        with pytest.raises(RpcError, match=f"ResourceExhausted.*has {most} streams open"):
            await anext(Job(client, job).stream())
        assert JobState.RUNNING == (await client.query(job)).state
