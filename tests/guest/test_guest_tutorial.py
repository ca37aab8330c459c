"""The tutorial, typed into a terminal on each of two machines."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from ..support.tmux import Terminal
from ..support.tutorial import HOST, LAPTOP, Tutorial
from .image import Image
from .installations import RootInstallation
from .machine import PATIENCE, Guest

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .payload import Payload

ADDRESSES = {HOST: "192.0.2.1", LAPTOP: "192.0.2.2"}
"""Addresses in a network that is reserved for documentation (RFC 5737)."""

AS_TESTER = ("setpriv", "--reuid=tester", "--regid=tester", "--init-groups")
PATH = "/usr/local/bin:/usr/bin:/bin"
CONNECT = """
hostname "$1"
printf '127.0.0.1 localhost\\n192.0.2.1 build1\\n192.0.2.2 laptop\\n' >/etc/hosts
ip addr add "$2/30" dev eth0
ip link set eth0 up
"""


class TutorialInstallation(RootInstallation):
    """A worker that only the tutorial uses, with the default address."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.variables = [f"WORKER_HOME={self.home}"]


@pytest.fixture
def laptop(
    guest: Guest,
    image: Image,
    payload: "Future[Payload]",
    wire: tuple[socket.socket, socket.socket],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guest]:
    """Another machine, with nothing but the installed packages, and a connection to the first one."""
    with Guest(image, tmp_path_factory.mktemp("laptop"), wire, end=1) as machine:
        payload.result().install(machine)
        for name, end in ((HOST, guest), (LAPTOP, machine)):
            end.check("bash", "-c", CONNECT, "-", name, ADDRESSES[name])
        yield machine
        guest.check("hostname", "guest")


def test_the_tutorial_on_two_machines(guest: Guest, laptop: Guest) -> None:
    """Each command prints what the page shows, and nothing is left at the end.

    The keys exist: an emulated processor needs minutes for RSA.
    """
    installation = TutorialInstallation(guest)
    installation.worker("certs", "init", "--key-type", "p256", "--host", HOST)
    environment = {"PATH": PATH, "HOME": "/root", "WORKER_HOME": installation.home}
    with ExitStack() as stack:
        stack.callback(installation.down)
        host = terminal(guest, environment, "/root")
        stack.callback(host.close)
        other = terminal(laptop, {"PATH": PATH, "HOME": "/home/tester"}, "/home/tester", AS_TESTER)
        stack.callback(other.close)
        Tutorial({HOST: host, LAPTOP: other}, installation.home, has_keys=True).follow()
    assert [] == installation.cgroups()


def terminal(
    guest: Guest, environment: dict[str, str], directory: str, prefix: Sequence[str] = ()
) -> Terminal:
    """Return a terminal on a machine."""

    def run(command: Sequence[str]) -> str:
        return guest.check(*command)

    return Terminal(run, "/run/tutorial.tmux", environment, directory, prefix=prefix, patience=PATIENCE)
