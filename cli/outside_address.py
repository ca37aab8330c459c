"""Under which host other machines reach what listens here."""

import socket

_PROBES = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}  # noqa: S104 - in networks that do not exist
"""For each wildcard address one behind the default route."""


def is_wildcard(host: str) -> bool:
    """Whether what listens at this host listens at every address of this machine."""
    return host in _PROBES


def outside(host: str) -> str:
    """Return the host itself; for a wildcard, the address of this machine toward the default route.

    Without such a route it is the name of this machine.
    """
    if not is_wildcard(host):
        return host
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((_PROBES[host], 9))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def is_here(host: str) -> bool:
    """Whether a name or an address is one of this machine."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, address) for family, _, _, _, address in found)


def _can_bind(family: int, address: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return False
        return True
