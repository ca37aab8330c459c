"""The server's side of an HTTP/2 connection."""

import asyncio
from pathlib import Path
from typing import Any

from h2.settings import SettingCodes

from worker.api import listener

from ..support.attacker import SETTINGS, Attacker, attacking, frame, message
from ..support.served import serving


async def test_the_read_buffer_of_a_connection_is_small(pki: Path) -> None:
    """If this fails, asyncio's TLS buffer has changed: see asyncio.sslproto in private-parts.md."""
    async with serving(pki) as served, served.client() as client:
        assert await client.health()
        [connection] = served.server.connections
        transport: Any = connection.transport
        protocol = transport._ssl_protocol
        assert listener.READ_BUFFER == len(protocol.get_buffer(-1))


async def test_settings_that_do_not_exist_are_not_kept(pki: Path) -> None:
    """They are ignored (RFC 9113, section 6.5.2); a client may send 65,536."""
    async with serving(pki) as served:

        def attack() -> None:
            unknown = b"".join(number.to_bytes(2) + bytes(4) for number in range(1000, 1050))
            with attacking(served.port, pki) as attacker:
                attacker.send(frame(SETTINGS, 0, 0, unknown) * 2)
                _call(attacker)
                [connection] = served.server.connections
                settings = connection.connection._connection.remote_settings
                assert set(settings) <= set(SettingCodes)

        await asyncio.to_thread(attack)


async def test_a_client_does_not_choose_what_the_server_keeps_of_headers(pki: Path) -> None:
    """It offers a table of 4 GiB; the server uses one of the default size, and says so (RFC 7541, 4.2)."""
    async with serving(pki) as served:

        def attack() -> None:
            with attacking(served.port, pki) as attacker:
                attacker.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: (1 << 32) - 1})
                _call(attacker)
                assert 4096 == attacker.h2.decoder.header_table_size

        await asyncio.to_thread(attack)


def _call(attacker: Attacker) -> None:
    attacker.begin(1, "/worker.v1.WorkerService/WhoAmI", message(b""), end=True)
    attacker.flush()
    attacker.until_answered(1)
