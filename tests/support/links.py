"""Two network namespaces on this machine, as two machines with a link between them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ADDRESS = "192.0.2.1"
"""The server's address, in a network that is reserved for documentation (RFC 5737)."""


class Link:
    """A link between two network namespaces: ``server`` and ``client``."""

    def __init__(self) -> None:
        self._names = {end: f"worker-{os.getpid()}-{end}" for end in ("server", "client")}

    def make(self) -> None:
        """Create both namespaces, and connect them."""
        for name in self._names.values():
            _ip("netns", "add", name)
        here, there = self._names.values()
        _ip(*f"link add wire netns {here} type veth peer name wire netns {there}".split())
        for end, address in (("server", ADDRESS), ("client", "192.0.2.2")):
            self._set(end, "lo", "up")
            _ip("-n", self._names[end], "addr", "add", f"{address}/30", "dev", "wire")
            self.restore(end)

    def remove(self) -> None:
        """Delete both namespaces, also after a partial make."""
        for name in self._names.values():
            if Path("/run/netns", name).exists():
                _ip("netns", "del", name)

    def at(self, end: str, command: list[str]) -> list[str]:
        """Return a command that runs in a namespace, with everything else as in the test."""
        return ["nsenter", f"--net=/run/netns/{self._names[end]}", "--", *command]

    def drop(self, end: str) -> None:
        """Take down one end of the link."""
        self._set(end, "wire", "down")

    def restore(self, end: str) -> None:
        """Bring it up again."""
        self._set(end, "wire", "up")

    def _set(self, end: str, device: str, state: str) -> None:
        _ip("-n", self._names[end], "link", "set", device, state)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=60)
    if "not permitted" in done.stderr or "Permission denied" in done.stderr:
        raise PermissionError(done.stderr.strip())
    assert 0 == done.returncode, (arguments, done.stderr)


@pytest.fixture
def link() -> Iterator[Link]:
    """A link for one test."""
    if os.geteuid() != 0:
        pytest.skip("only root can create network namespaces")
    if not (shutil.which("ip") and shutil.which("nsenter")):
        pytest.skip("ip(8) or nsenter(1) is missing: apt-get install iproute2 util-linux")
    link = Link()
    try:
        link.make()
        yield link
    except PermissionError as error:  # root in a container without the privilege
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        link.remove()
