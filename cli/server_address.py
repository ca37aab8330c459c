"""Where a server listens by default, and how it records that for its clients."""

from ..client.address import DEFAULT_PORT, Address
from .home import Home

DEFAULT_LISTEN = Address("127.0.0.1", DEFAULT_PORT)


def record_address(home: Home, address: Address) -> None:
    """Record where the server listens, for clients that use this home."""
    new = home.path / "address.new"
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(f"{address.reachable}\n")
    new.replace(home.address)
