"""Accepting connections: what clients cost before their TLS handshake is complete."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api.bounds import Bounds
from worker.api.listener import WAITING
from worker.api.rate import TokenBucket

from ..support.served import Served, serving


@contextmanager
def silent(served: Served, count: int, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Open connections that send nothing."""
    opened = []
    try:
        for _ in range(count):
            opened.append(socket.create_connection((served.host, served.port), source_address=(source, 0)))
            opened[-1].setblocking(False)
        yield opened
    finally:
        for each in opened:
            each.close()


async def closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection."""
    try:
        return b"" == await asyncio.get_running_loop().sock_recv(connection, 1)
    except ConnectionResetError:
        return True


async def test_an_address_that_opens_too_many_connections_is_refused(
    pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Some of its connections wait, the others are closed; the log names the setting once."""
    bounds = Bounds(max_handshakes_per_address=2, max_handshakes=100)
    async with serving(pki, bounds=bounds) as served:
        with silent(served, 30, "127.0.0.2") as connections:
            for each in connections[2 + 2 * WAITING :]:
                assert await closed(each)
            async with served.client() as client:
                assert await client.health()
    lines = [each.getMessage() for each in caplog.records if "max_handshakes_per_address" in each.message]
    assert 1 == len(lines)
    assert lines[0].startswith("127.0.0.2: ")


async def test_an_honest_burst_of_one_address_waits(pki: Path) -> None:
    """Connections above the bound are served when those before them have ended their handshakes."""
    bounds = Bounds(max_handshakes_per_address=1)
    async with serving(pki, bounds=bounds) as served, AsyncExitStack() as clients:
        made = [await clients.enter_async_context(served.client()) for _ in range(5)]
        assert [True] * 5 == await asyncio.gather(*(each.health() for each in made))


async def test_a_load_balancer_may_open_more(pki: Path) -> None:
    """An address that stands for many clients has only the bound in total."""
    bounds = Bounds(max_handshakes_per_address=1, load_balancers=(ip_network("127.0.0.0/8"),))
    async with serving(pki, bounds=bounds) as served:
        with silent(served, 3):
            async with served.client() as client:
                assert await client.health()


async def test_no_connection_is_accepted_while_there_are_too_many_handshakes(pki: Path) -> None:
    """A client waits until one has ended, and is then served."""
    bounds = Bounds(max_handshakes=2)
    async with serving(pki, bounds=bounds) as served:
        with silent(served, 2, "127.0.0.2") as connections, silent(served, 1) as waiting:
            async with served.client() as client:
                call = asyncio.ensure_future(client.health())
                done, _ = await asyncio.wait({call}, timeout=0.2)
                assert not done
                for each in [*connections, *waiting]:
                    each.close()
                assert await call


async def test_a_handshake_that_takes_too_long_is_ended(
    pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not matter whether the client has sent nothing, or half of a message."""
    caplog.set_level(logging.INFO)
    async with serving(pki, bounds=Bounds(handshake_timeout=0.2)) as served:
        with silent(served, 2) as connections:
            connections[1].send(b"\x16\x03\x01\x02\x00\x01")
            for each in connections:
                assert await closed(each)
    expected = (
        "127.0.0.1: refused: the TLS handshake failed: it is not complete after 0.2 s "
        "(setting handshake_timeout)"
    )
    assert 2 == [each.getMessage() for each in caplog.records].count(expected)


async def test_a_shortage_of_descriptors_is_survived(
    pki: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server waits, and accepts the connection later."""
    failures = [OSError(24, "Too many open files")]
    accept = socket.socket.accept

    def failing(self: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        if failures:
            raise failures.pop()
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with serving(pki) as served, served.client() as client:
        assert await client.health()
    assert "cannot accept connections at the moment: Too many open files" in caplog.text


async def test_garbage_is_one_line(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no TLS is refused with a reason and without a traceback."""
    caplog.set_level(logging.INFO)
    async with serving(pki) as served:
        with silent(served, 1) as [connection]:
            connection.send(b"GET / HTTP/1.1\r\n\r\n")
            while (await asyncio.get_running_loop().sock_recv(connection, 100)) != b"":
                pass
    [record] = [each for each in caplog.records if "refused" in each.getMessage()]
    assert "127.0.0.1: refused: it speaks HTTP without TLS" == record.getMessage()
    assert record.exc_info is None


@given(
    st.integers(1, 100),
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), max_size=50),
)
def test_a_bucket_allows_the_burst_and_the_rate(
    burst: int, rate: int, events: list[tuple[float, int]]
) -> None:
    """Whatever is taken when, it is never more than the burst and the rate over any time."""
    bucket = TokenBucket(burst, rate, now=0)
    now = 0.0
    taken: list[tuple[float, int]] = []
    for pause, count in events:
        now += pause
        taken.append((now, sum(bucket.take(now) for _ in range(count))))
        assert bucket.seconds_to_next(now) <= 1 / rate
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            elapsed = taken[last][0] - taken[first][0]
            assert sum(count for _, count in taken[first : last + 1]) <= burst + elapsed * rate + 1e-6
