"""Where a server listens by default, and how it records that for its clients."""

from ..client.address import DEFAULT_PORT, Address
from .home import Home
from .private_files import replace_private

DEFAULT_LISTEN = Address("127.0.0.1", DEFAULT_PORT)


def record_address(home: Home, address: Address) -> None:
    """Record where the server listens, for clients that use this home."""
    replace_private(home.address, f"{address.reachable}\n")
