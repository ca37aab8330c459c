"""Clients that have not shown who they are: what their connections cost, and who can still connect."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from ..support.abused import Abused, serving_abused
from ..support.attacker import PATIENCE, attacking

SILENT = 3000
CHEAP = 4096
"""Bytes of the server's memory that a connection may cost before its TLS handshake begins."""


@pytest.fixture(autouse=True)
def many_descriptors() -> None:
    """Allow this process as many connections as the tests open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < SILENT + 500:
        pytest.skip(f"needs {SILENT} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def silent(abused: Abused, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that send nothing."""
    with ExitStack() as stack:
        connect = partial(socket.create_connection, ("127.0.0.1", abused.port), timeout=PATIENCE)
        yield [stack.enter_context(connect()) for _ in range(count)]


def descriptors(abused: Abused) -> int:
    """Return how many descriptors the server has open."""
    return len(list(Path(f"/proc/{abused.pid}/fd").iterdir()))


def test_silent_connections_of_one_address(pki: Path, tmp_path: Path) -> None:
    """All but a few are closed at once; another client of that address can connect when those are gone."""
    with serving_abused(pki, tmp_path / "log", handshake_timeout=1) as abused, abused.other() as other:
        before = abused.resident()
        with silent(abused, SILENT) as connections:
            other.call(10)
            for each in connections:
                assert b"" == each.recv(1)
                other.call() if each.fileno() % 100 == 0 else None
            assert abused.resident() - before <= SILENT * CHEAP
            with attacking(abused.port, pki):
                pass
        assert "setting max_handshakes_per_address" in abused.log.read_text()


def test_what_a_silent_connection_costs(pki: Path, tmp_path: Path) -> None:
    """It has no TLS buffers: 3000 of them cost less than 35 did with those of asyncio."""
    bounds = {
        "max_handshakes": SILENT + 100,
        "max_handshakes_per_address": SILENT + 100,
        "max_handshakes_per_second": 100_000,
        "handshake_timeout": PATIENCE,
    }
    with serving_abused(pki, tmp_path / "log", **bounds) as abused, abused.other() as other:
        before, open_before = abused.resident(), descriptors(abused)
        with silent(abused, SILENT):
            while descriptors(abused) < open_before + SILENT:
                other.call()
            assert abused.resident() - before <= SILENT * CHEAP


def test_silent_connections_of_many_addresses(pki: Path, tmp_path: Path) -> None:
    """While others want to connect, they are closed after a second: a new client gets its turn."""
    bounds = {"max_handshakes": 4, "max_handshakes_per_address": 100}
    with (
        serving_abused(pki, tmp_path / "log", **bounds) as abused,
        abused.other() as other,
        silent(abused, 12),
    ):
        with attacking(abused.port, pki) as late:  # it would otherwise wait for three times ten seconds
            assert not late.closed
        other.call(10)
        assert "setting max_handshakes)" in abused.log.read_text()
