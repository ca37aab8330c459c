"""What a server records of connections: begin, end, and handshakes that fail."""

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from worker.api import certificates
from worker.api.bounds import Bounds
from worker.api.certificates import KeyType
from worker.api.failed_handshakes import MOST_ADDRESSES, OTHERS, FailedHandshakes
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.audit.record import Event
from worker.core.audit.trail import AuditTrail
from worker.core.model.job import JobSpec
from worker.core.testing import MemoryAuditLog

from ..support.audited import auditing, facts
from ..support.authorities import replace
from ..support.served import Served


async def test_connections(pki: Path) -> None:
    """Begin and end of each connection are recorded, with the same address."""
    async with auditing(pki) as audited:
        for name in ("writer", "reader"):
            async with audited.served.client(name) as client:
                await client.health()
        closed = await audited.until(Event.CONNECTION_CLOSED, 2)
        opened = audited.named(Event.CONNECTION_OPENED)
        assert ["writer", "reader"] == [each["identity"] for each in opened]
        assert [facts(pki / f"{name}.crt")["serial"] for name in ("writer", "reader")] == [
            each["serial"] for each in opened
        ]
        assert {each["address"] for each in opened} == {each["address"] for each in closed}
        assert all(each["duration"] >= 0 for each in closed)


async def test_a_connection_that_the_server_ends(pki: Path) -> None:
    """The end has the reason."""
    bounds = Bounds(max_connections_per_client=1)
    async with auditing(pki, bounds=bounds) as audited, audited.served.client() as client:
        await client.health()
        with pytest.raises((RpcError, ServerUnreachable)):
            async with audited.served.client() as other:
                await other.health()
        (closed,) = await audited.until(Event.CONNECTION_CLOSED)
        assert "max_connections_per_client" in closed["reason"]


async def test_a_client_that_is_denied_later(pki: Path, tmp_path: Path) -> None:
    """Its stream and its connection end, with the reason."""
    own = tmp_path / "pki"
    shutil.copytree(pki, own)
    async with auditing(own, check_period=0.05) as audited, audited.served.client() as client:
        job = str(await client.start(JobSpec("write-and-sleep")))
        stream = Job(client, job).stream()
        await anext(stream)
        replace(own / "denied", f"{facts(own / 'writer.crt')['serial']}\n".encode())
        with pytest.raises((RpcError, ServerUnreachable)):
            await anext(stream)
        (closed,) = await audited.until(Event.CONNECTION_CLOSED)
        outcome = audited.named(Event.OUTCOME)[-1]
        assert ("Stream", "Unauthenticated") == (outcome["method"], outcome["code"])
        assert closed["reason"]
        assert closed["reason"] in outcome["message"]
        assert [{}] == [
            {name: value for name, value in each.items() if name not in {"time", "event"}}
            for each in audited.named(Event.RELOADED)
        ]


async def test_a_client_of_another_ca(pki: Path, tmp_path: Path) -> None:
    """Its handshake fails; there is an address and a reason, but no identity."""
    other = tmp_path / "pki"
    certificates.init(other, key_type=KeyType.P256)
    (other / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())  # it trusts the server
    async with auditing(pki) as audited:
        stranger = Served(
            audited.served.server, audited.served.worker, audited.served.host, audited.served.port, other
        )
        with pytest.raises(ServerUnreachable):
            async with stranger.client() as client:
                await client.health()
        (failure,) = await audited.until(Event.HANDSHAKE_FAILED)
        assert {"time", "event", "address", "reason", "count"} == failure.keys()
        assert ("127.0.0.1", 1) == (failure["address"], failure["count"])
        assert "certificate" in failure["reason"]
        assert [] == audited.named(Event.CONNECTION_OPENED)


async def test_a_client_without_tls(pki: Path) -> None:
    """Garbage is recorded once for an address; the rest is counted, and recorded at the end."""
    async with auditing(pki) as audited:
        for _ in range(5):
            with socket.create_connection((audited.served.host, audited.served.port)) as raw:
                raw.setblocking(False)
                raw.send(b'{"event":"decision","identity":"root","allowed":true}\n')
                await asyncio.get_running_loop().sock_recv(raw, 100)
        assert [1] == [each["count"] for each in audited.named(Event.HANDSHAKE_FAILED)]
    assert [1, 4] == [each["count"] for each in audited.named(Event.HANDSHAKE_FAILED)]
    assert {"127.0.0.1"} == {each["address"] for each in audited.named(Event.HANDSHAKE_FAILED)}
    assert [] == audited.named(Event.DECISION)


async def test_many_addresses_cannot_displace_other_records() -> None:
    """Failed handshakes beyond a number of addresses are counted together: anybody can cause them."""
    log = MemoryAuditLog()
    failed = FailedHandshakes(AuditTrail(log))
    for number in range(MOST_ADDRESSES + 500):
        failed.failed(f"2001:db8::{number:x}", "garbage")
    assert MOST_ADDRESSES + 1 == len(log.records)
    failed.summarize()
    assert [(OTHERS, 499)] == [
        (each["address"], each["count"]) for each in log.records[MOST_ADDRESSES + 1 :]
    ]
    failed.failed("2001:db8::1", "garbage")
    failed.summarize()
    assert 1 == log.records[-1]["count"]
