"""The server's side of an HTTP/2 connection."""

from pathlib import Path
from typing import Any

from worker.api import listener

from ..support.served import serving


async def test_the_read_buffer_of_a_connection_is_small(pki: Path) -> None:
    """If this fails, asyncio's TLS buffer has changed: see asyncio.sslproto in private-parts.md."""
    async with serving(pki) as served, served.client() as client:
        assert await client.health()
        [connection] = served.server.connections
        transport: Any = connection.transport
        protocol = transport._ssl_protocol
        assert listener.READ_BUFFER == len(protocol.get_buffer(-1))
