"""Clients that are no longer trusted are disconnected, with the reason; nobody else notices.

Over real TLS, with certificates that expire, are revoked or denied during a connection.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from worker.api.identity import serial_text
from worker.client.client import Client
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.model.ending import Channel
from worker.core.model.job import JobSpec, JobState
from worker.core.model.stream_start import BEGINNING

from ..support.attaching import attach_once
from ..support.authorities import Issued, TestCA, now, replace
from ..support.clients import impatient
from ..support.served import Served, serving

PERIOD = 0.05


@dataclass
class Site:
    """A CA and the directory that the server reads."""

    ca: TestCA
    pki: Path
    clients: Path

    def client(self, served: Served, name: str, issued: Issued | None = None, *chain: Issued) -> Client:
        """Return a client with a certificate of this name, or with the given one."""
        issued = issued or self.ca.client(name)
        return impatient(
            served.host, served.port, issued.context(self.pki / "ca.crt", self.clients, name, *chain)
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The files of a server."""
    ca = TestCA("site CA")
    ca.server().write(tmp_path / "pki", "server")
    (tmp_path / "pki" / "ca.crt").write_bytes(ca.issued.pem)
    return Site(ca, tmp_path / "pki", tmp_path / "clients")


async def refusal(call: Awaitable[object]) -> str:
    """Return the message with which a call is refused, or the connection ended before it."""
    try:
        await call
    except RpcError as error:
        return f"{error.code}: {error.message}"
    except ServerUnreachable as error:
        return f"Unauthenticated: {error.reason}"
    pytest.fail("the call was not refused")


async def everything(client: Client, job: str) -> list[str]:
    """Make a call of each kind that waits, and return why they ended."""

    async def stream() -> None:
        async for _ in Job(client, job).stream():
            pass

    async def attach() -> None:
        async with attach_once(client, job, output={Channel.OUTPUT: BEGINNING}) as call:
            while await call.receive() is not None:
                pass

    calls: list[Callable[[], Awaitable[object]]] = [stream, attach, lambda: Job(client, job).wait()]
    return await asyncio.gather(*(refusal(each()) for each in calls))


def deny(site: Site, *issued: Issued) -> None:
    """Replace the list of denied serials."""
    replace(site.pki / "denied", "".join(f"{serial_text(each.serial)}\n" for each in issued).encode())


def revoke(site: Site, *issued: Issued) -> None:
    """Replace the CRL."""
    replace(site.pki / "ca.crl", site.ca.crl(issued))


@pytest.mark.parametrize(
    ("withdraw", "reason"),
    [(deny, "its certificate is denied"), (revoke, "its certificate was revoked on")],
)
async def test_a_client_is_disconnected_when_its_certificate_is_withdrawn(
    site: Site, withdraw: Callable[..., None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its streams, Wait and Attach end with the reason; its job and the streams of others continue."""
    ann, bob = site.ca.client("ann"), site.ca.client("bob")
    async with serving(site.pki, check_period=PERIOD) as served:
        first, second = site.client(served, "ann", ann), site.client(served, "bob", bob)
        async with first, second:
            job = str(await first.start(JobSpec("write-and-sleep")))
            followed = Job(second, job).stream()
            assert b"12345" == (await anext(followed)).data
            ended = asyncio.create_task(everything(first, job))
            waiting = asyncio.create_task(Job(second, job).wait())
            assert await first.health()
            withdraw(site, ann)
            for message in await ended:
                assert message.startswith(f"Unauthenticated: the server refuses this client: {reason}")
            assert reason in await refusal(first.health())
            assert JobState.RUNNING is (await second.query(job)).state
            await Job(second, job).stop(grace=0)
            assert [] == [each async for each in followed]
            assert JobState.RUNNING is not (await waiting).state
    lines = [each.getMessage() for each in caplog.records if ": refused: " in each.getMessage()]
    assert lines
    for line in lines:
        assert f": 'ann', serial {serial_text(ann.serial)}: refused: {reason}" in line
        assert line.startswith("127.0.0.1:")


async def test_a_client_is_disconnected_when_its_certificate_expires(site: Site) -> None:
    """TLS has accepted it before; from then on the handshake itself fails."""
    ann = site.ca.client("ann", end=now() + timedelta(seconds=2))
    async with serving(site.pki, check_period=PERIOD) as served, site.client(served, "ann", ann) as client:
        job = str(await client.start(JobSpec("write-and-sleep")))
        for message in await everything(client, job):
            assert message.startswith(
                "Unauthenticated: the server refuses this client: its certificate expired on"
            )
        async with site.client(served, "bob") as other:
            assert JobState.RUNNING is (await other.query(job)).state


async def test_a_call_is_refused_before_the_timer_notices(site: Site) -> None:
    """Each call is checked, whatever the period is."""
    ann = site.ca.client("ann")
    async with serving(site.pki, check_period=1000) as served, site.client(served, "ann", ann) as client:
        assert await client.health()
        deny(site, ann)
        assert await client.health()  # not read yet
        reload = asyncio.create_task(served.server.reload_certificates())
        assert await reload is None
        assert "is denied" in await refusal(client.health())


async def test_a_ca_that_is_withdrawn_ends_the_connections_of_its_clients(site: Site) -> None:
    """Those of the other CA stay connected, and are not asked to connect again."""
    other = TestCA("other CA")
    (site.pki / "ca.crt").write_bytes(site.ca.issued.pem + other.issued.pem)
    async with serving(site.pki, check_period=PERIOD) as served:
        (site.clients).mkdir()
        trusted = site.clients / "trusted.crt"
        trusted.write_bytes(site.ca.issued.pem)
        ann = site.ca.client("ann").context(trusted, site.clients, "ann")
        bob = other.client("bob").context(trusted, site.clients, "bob")
        async with (
            impatient(served.host, served.port, ann) as first,
            impatient(served.host, served.port, bob) as second,
        ):
            job = str(await second.start(JobSpec("write-and-sleep")))
            waiting = asyncio.create_task(Job(second, job).wait())
            ended = asyncio.create_task(everything(first, job))
            assert await first.health()
            replace(site.pki / "ca.crt", other.issued.pem)
            for message in await ended:
                assert "the CA of its certificate is not, or no longer, trusted" in message
            assert not waiting.done()
            await Job(second, job).stop(grace=0)
            await waiting


@pytest.mark.parametrize("order", ["crl first", "other first"])
async def test_a_crl_of_one_ca_does_not_concern_the_other(site: Site, order: str) -> None:
    """With two CAs and the CRL of one, clients of the other are accepted."""
    other = TestCA("other CA")
    authorities = [site.ca.issued.pem, other.issued.pem]
    (site.pki / "ca.crt").write_bytes(b"".join(authorities if order == "crl first" else authorities[::-1]))
    ann, bob = site.ca.client("ann"), other.client("bob")
    revoke(site, ann)
    async with serving(site.pki) as served:
        async with site.client(served, "bob", bob) as client:
            assert await client.health()
        async with site.client(served, "carol") as client:
            assert await client.health()
        async with site.client(served, "ann", ann) as client:
            assert "was revoked on" in await refusal(client.health())


async def test_a_crl_in_the_file_of_the_cas_counts(site: Site) -> None:
    """It is not ignored because it stands in another file than usual."""
    ann = site.ca.client("ann")
    (site.pki / "ca.crt").write_bytes(site.ca.issued.pem + site.ca.crl([ann]))
    async with serving(site.pki) as served, site.client(served, "ann", ann) as client:
        assert "was revoked on" in await refusal(client.health())


async def test_an_expired_crl_refuses_and_a_new_one_accepts_again(site: Site) -> None:
    """It fails closed, at the next check of a client that is connected."""
    end = now() - timedelta(seconds=1)
    async with serving(site.pki, check_period=1000) as served, site.client(served, "ann") as client:
        assert await client.health()
        replace(site.pki / "ca.crl", site.ca.crl(begin=end - timedelta(days=1), end=end))
        await served.server.reload_certificates()
        assert "the CRL of its CA 'CN=site CA' expired on" in await refusal(client.health())
        replace(site.pki / "ca.crl", site.ca.crl())
        await served.server.reload_certificates()
        assert await client.health()


@pytest.mark.parametrize("trusted", ["root", "between", "both"])
async def test_clients_of_an_intermediate_ca(site: Site, trusted: str) -> None:
    """The client sends the intermediate certificate; either CA may be the trusted one."""
    between = TestCA("between", site.ca)
    pems = {"root": [site.ca], "between": [between], "both": [site.ca, between]}[trusted]
    (site.pki / "server-ca.crt").write_bytes(site.ca.issued.pem)
    (site.pki / "ca.crt").write_bytes(b"".join(each.issued.pem for each in pems))
    context = between.client("ann").context(site.pki / "server-ca.crt", site.clients, "ann", between.issued)
    async with serving(site.pki) as served, impatient(served.host, served.port, context) as client:
        assert await client.health()
        replace(site.pki / "ca.crl", site.ca.crl([between.issued]))
        if trusted != "between":
            assert await served.server.reload_certificates() is None
            assert "the certificate of its CA 'CN=between' was revoked" in await refusal(client.health())
        else:
            error = await served.server.reload_certificates()
            assert error is not None
            assert "there is a CRL of CN=site CA, but no certificate of that CA" in error


async def test_the_reason_reaches_a_client_that_makes_no_call(site: Site) -> None:
    """The connection ends with GOAWAY, which has the reason as its debug data."""
    import ssl

    ann = site.ca.client("ann")
    ann.context(site.pki / "ca.crt", site.clients, "ann")
    deny(site, ann)
    async with serving(site.pki, check_period=PERIOD) as served:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # of Python 3.13, not strict
        context.load_verify_locations(site.pki / "ca.crt")
        context.load_cert_chain(site.clients / "ann.crt", site.clients / "ann.key")
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(served.host, served.port, ssl=context)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        received = await reader.read()
        writer.close()
        assert b"its certificate is denied (serial " in received


async def test_a_broken_reload_changes_nothing_and_is_an_error(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once for each change, and the next good one is taken."""
    ann = site.ca.client("ann")
    deny(site, ann)
    async with serving(site.pki, check_period=PERIOD) as served:
        replace(site.pki / "denied", b"nonsense\n")
        await logged(caplog, "line 1: 'nonsense' is not a serial in hex")
        async with site.client(served, "ann", ann) as client:
            assert "is denied" in await refusal(client.health())
        replace(site.pki / "denied", b"")
        await logged(caplog, "certificates were reloaded")
        async with site.client(served, "ann", ann) as client:
            assert await client.health()
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert 1 == len(errors)
    assert "certificates not reloaded, those before remain in force" in errors[0].getMessage()


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until a line was logged."""
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(60):
        while text not in caplog.text:
            await asyncio.sleep(PERIOD)
