"""HOST:PORT, as people write it."""

from typing import NamedTuple


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def reachable(self) -> "Address":
        """The address that a client on this machine uses: the wildcards are in no certificate."""
        return self._replace(host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))  # noqa: S104


def parse_address(text: str) -> Address:
    """Return the address written as ``text``: name, IPv4 or [IPv6], then the port."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("write HOST:PORT, as in 127.0.0.1:7443")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("write an IPv6 address in brackets, as in [::1]:7443")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{port!r} is no port; 0 to 65535 is one")
    return Address(host, int(port))
