"""The address of a server: HOST:PORT, its default, and the file in WORKER_HOME that records it."""

from typing import NamedTuple

from .home import Home

DEFAULT_PORT = 7443


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def reachable(self) -> "Address":
        """The address for clients on this machine: no certificate names a wildcard address."""
        return self._replace(host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))  # noqa: S104


DEFAULT_SERVER = Address("localhost", DEFAULT_PORT)


def parse_address(text: str) -> Address:
    """Return the address written as ``text``: name, IPv4 or [IPv6], then the port; raise ValueError."""
    if "://" in text:
        raise ValueError("write HOST:PORT without a scheme, as in 127.0.0.1:7443")
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("write HOST:PORT, as in 127.0.0.1:7443")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("write an IPv6 address in brackets, as in [::1]:7443")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{port!r} is not a port; use 0 to 65535")
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at this host."""
    from ipaddress import ip_address  # noqa: PLC0415 - a command that succeeds does not need it

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def default_address(home: Home) -> Address:
    """Return the address that the server of this home recorded, else DEFAULT_SERVER."""
    try:
        return parse_address(home.address.read_text().strip())
    except (OSError, ValueError):  # no server has run yet, or the file is not readable for this user
        return DEFAULT_SERVER
