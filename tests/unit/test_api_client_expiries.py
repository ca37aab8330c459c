"""Certificates of clients that end within 30 days: the log of the server has each once a day."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from worker.api.ends_of_validity import ClientExpiries
from worker.api.identity import Caller, read_certificate, serial_text

from ..support.authorities import Issued, TestCA, now
from ..support.clients import impatient
from ..support.served import serving

CA = TestCA("the CA")
DAY = timedelta(days=1)
SECONDS = 86400.0
START = now().timestamp()
SOON = now() + 20 * DAY


def caller(issued: Issued) -> Caller:
    """Return a client with this certificate."""
    return Caller(read_certificate(issued.der), "192.0.2.1:1")


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged since the last call."""
    messages = [each.getMessage() for each in caplog.records]
    caplog.clear()
    return messages


def test_each_certificate_is_reported_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """However often it connects; another certificate of the same client is another one."""
    expiries, first, second = (
        ClientExpiries(),
        caller(CA.client("ann", end=SOON)),
        caller(CA.client("ann", end=SOON)),
    )
    for hours, client, expected in (
        (0, first, 1),
        (1, first, 0),
        (2, second, 1),
        (23, first, 0),
        (24, first, 1),
    ):
        expiries.connected(client, START + hours * 3600)
        assert expected == len(warned(caplog)), hours
    expiries.connected(second, START + 25 * 3600)
    assert [] == warned(caplog)
    expiries.connected(second, START + 26 * 3600)
    [line] = warned(caplog)
    serial = second.certificate.serial_hex
    assert line.startswith(
        f"the certificate of the client 'ann', serial {serial}, expires on {SOON:%Y-%m-%d}"
    )


def test_warnings_begin_30_days_before(caplog: pytest.LogCaptureFixture) -> None:
    """Not before, and not for a client whose certificate cannot be read."""
    expiries, client = ClientExpiries(), caller(CA.client("ann", end=now() + 31 * DAY))
    expiries.connected(client, START)
    assert [] == warned(caplog)
    expiries.connected(client, START + 1.1 * SECONDS)
    assert 1 == len(warned(caplog))
    unreadable = Caller(read_certificate(b"x"), "")
    warned(caplog)
    expiries.connected(unreadable, START)
    assert [] == warned(caplog)


def test_memory_and_log_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound nothing is logged that day; the next day it goes on."""
    expiries = ClientExpiries(most=3)
    clients = [caller(CA.client(f"client-{number}", end=SOON)) for number in range(5)]
    for client in clients * 2:
        expiries.connected(client, START)
    assert 3 == len(expiries._warned)
    lines = warned(caplog)
    assert (4, True) == (len(lines), "there is no warning today" in lines[-1])
    for client in reversed(clients):
        expiries.connected(client, START + SECONDS)
    assert 4 == len(warned(caplog))
    assert 3 == len(expiries._warned)


async def test_a_server_warns_of_its_clients(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those that connect; one line for a client that connects twice."""
    pki = tmp_path / "pki"
    CA.server().write(pki, "server")
    (pki / "ca.crt").write_bytes(CA.issued.pem)
    ann, bob = CA.client("ann", end=SOON), CA.client("bob")
    async with serving(pki) as served:
        with caplog.at_level(logging.WARNING):
            for name, issued in (("ann", ann), ("bob", bob), ("ann", ann)):
                context = issued.context(pki / "ca.crt", tmp_path / "clients", name)
                async with impatient(served.host, served.port, context) as client:
                    await client.list()
    lines = [each for each in warned(caplog) if "certificate of the client" in each]
    assert [f"the certificate of the client 'ann', serial {serial_text(ann.serial)}"] == [
        each.partition(", expires")[0] for each in lines
    ]
