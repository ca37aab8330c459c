"""Attacks with many connections: each client is told why it is disconnected, and others are served."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.abused import serving_abused
from ..support.attacker import ENHANCE_YOUR_CALM, Attacker, attacking


def test_connections_of_one_client_are_bounded(pki: Path, tmp_path: Path) -> None:
    """The next one is told why it is closed (GOAWAY); another client is not concerned."""
    bounds = {"max_connections_per_client": 2, "max_connections": 4}
    with ExitStack() as stack:
        abused = stack.enter_context(serving_abused(pki, tmp_path / "log", **bounds))

        def connect(name: str) -> Attacker:
            return stack.enter_context(attacking(abused.port, pki, name))

        def refused(name: str) -> bytes:
            attacker = connect(name)
            attacker.until_closed()
            assert attacker.goodbye is not None
            assert ENHANCE_YOUR_CALM == attacker.goodbye.error_code
            return attacker.goodbye.additional_data or b""

        for name in ("reader", "reader"):
            connect(name)
        expected = (
            "'reader' has 2 connections, the maximum for one client (setting max_connections_per_client)"
        )
        assert expected.encode() == refused("reader")
        other = stack.enter_context(abused.other())
        connect("writer")
        other.call(10)


def test_connections_are_bounded(pki: Path, tmp_path: Path) -> None:
    """This bound applies to a client with few connections, too."""
    with (
        serving_abused(pki, tmp_path / "log", max_connections=1) as abused,
        abused.other() as other,
        attacking(abused.port, pki) as attacker,
    ):
        attacker.until_closed()
        assert attacker.goodbye is not None
        assert b"there are 1 connections, the maximum (setting max_connections)" == (
            attacker.goodbye.additional_data
        )
        other.call(10)


def test_our_client_reports_why_it_is_disconnected(pki: Path, tmp_path: Path) -> None:
    """The reason of the server's GOAWAY is in the error."""
    import asyncio

    from worker.api.tls import client_context
    from worker.client.errors import ServerUnreachable

    from ..support.clients import impatient

    context = client_context(ca=pki / "ca.crt", certificate=pki / "reader.crt", key=pki / "reader.key")

    async def health(port: int) -> bool:
        async with impatient("127.0.0.1", port, context) as client:
            return await client.health()

    with (
        serving_abused(pki, tmp_path / "log", max_connections_per_client=1) as abused,
        attacking(abused.port, pki) as one,
    ):
        assert one.receive()
        with pytest.raises(ServerUnreachable, match="setting max_connections_per_client"):
            asyncio.run(health(abused.port))
