"""The server's side of an HTTP/2 connection."""

from pathlib import Path
from typing import Any

from worker.api.grpc import server_connections

from ..support.served import serving


async def test_the_read_buffer_of_a_connection_is_small(pki: Path) -> None:
    """If this fails, asyncio's TLS buffer has changed: see _ssl_protocol in docs/private-parts.md."""
    async with serving(pki) as served, served.client() as client:
        assert await client.health()
        [connection] = served.server.connections
        transport: Any = connection.transport
        protocol = transport._ssl_protocol
        expected = server_connections.READ_BUFFER
        assert (expected, expected) == (protocol.max_size, len(protocol._ssl_buffer))
        assert protocol._ssl_buffer is protocol.get_buffer(expected).obj
