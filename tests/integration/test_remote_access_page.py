"""The commands of docs/how-to/remote-access.md as they stand: two users of a machine, and two machines."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ..support.fixtures import Install
from ..support.installation import Installation, assert_nothing_left
from ..support.links import ADDRESS, Link, link
from ..support.unprivileged import can_become_unprivileged, home_of_another_user, identity
from ..support.waiting import wait_until

__all__ = ["link"]

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "remote-access.md").read_text()
STEPS = re.findall(r"^(host|laptop)\$ (.*)$", PAGE, re.MULTILINE)
PRINTED = re.compile(r"worker join (\S+:\d+) wj1_\S+")


@dataclass
class Side:
    """One of the machines: the user's environment, and what runs a command as that user there."""

    environment: Mapping[str, str]
    directory: Path
    prefix: Sequence[str] = ()

    def begin(self, command: str) -> "subprocess.Popen[str]":
        """Begin a command of the page."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(
            [*self.prefix, "sh", "-c", command],
            cwd=self.directory,
            env={**inherited, "PATH": path, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str) -> str:
        """Run a command of the page, and return what it prints."""
        with self.begin(command) as process:
            out, err = process.communicate(timeout=60)
        assert 0 == process.returncode, (command, out, err)
        return out


@dataclass
class Typist:
    """Types the commands of the page; ``here`` replaces texts that are different in this test."""

    host: Side
    laptop: Side
    here: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def type(self, machine: str, command: str) -> None:
        """Type a command."""
        for text, replacement in self.here.items():
            command = command.replace(text, replacement)
        if machine == "host" and "invite" in command and "--listen" in command:
            self._invite(command)
        elif PRINTED.match(command):
            self._join()
        else:
            side = self.host if machine == "host" else self.laptop
            self.printed[command] = side.run(command)
        bundle = self.host.directory / "bob.bundle"
        if bundle.exists():  # carry it to the laptop
            carried = shutil.copy(bundle, self.laptop.directory)
            os.chown(carried, self.laptop.directory.stat().st_uid, -1)
            bundle.unlink()

    def _invite(self, command: str) -> None:
        self.inviter = self.host.begin(command)
        assert self.inviter.stdout is not None
        self.invitation = self.inviter.stdout.readline().strip()
        assert PRINTED.fullmatch(self.invitation), self.inviter.communicate()

    def _join(self) -> None:
        printed = self.laptop.run(self.invitation)
        assert printed.endswith("try: worker run hostname\n")
        with self.inviter as inviter:
            out, err = inviter.communicate()
        assert 0 == inviter.returncode, err
        assert "was issued to alice (writer)" in out
        self.notes += err.splitlines()


def follow_the_page(typist: Typist, server: Installation) -> None:
    """Type everything, and check what it means."""
    assert len(STEPS) >= 8
    for machine, command in STEPS:
        typist.type(machine, command)
    assert f"{os.uname().nodename}\n" == typist.printed["worker run hostname"]
    assert "Name:      alice\n" in typist.printed["worker whoami"]
    os.kill(server.server_pid(), signal.SIGHUP)  # it would notice the revocation itself, but later
    wait_until(lambda: "its certificate is denied" in typist.laptop.begin("worker list").communicate()[1])
    typist.laptop.environment = {**typist.laptop.environment, "WORKER_CONTEXT": "bob"}
    assert "Roles:     reader\n" in typist.laptop.run("worker whoami")
    assert [] == [each for each in typist.notes if "the client is to use" in each]


def test_two_users_of_one_machine(install: Install, tmp_path: Path) -> None:
    """The laptop is another user, who can read nothing of the server's."""
    installation = install(tmp_path / "home")
    own = {name: value for name, value in installation.env.items() if name.startswith("WORKER_")}
    host = Side({**own, "HOME": str(tmp_path)}, tmp_path)
    with home_of_another_user() as directory:
        prefix = identity() if can_become_unprivileged() else []
        laptop = Side({"HOME": str(directory), "XDG_CONFIG_HOME": ""}, directory, prefix)
        typist = Typist(host, laptop, {"0.0.0.0:7443": "127.0.0.1:0", "0.0.0.0:7444": "127.0.0.1:0"})
        typist.type(*STEPS[0])
        typist.here["host.example.org:7443"] = (installation.home / "address").read_text().strip()
        follow_the_page(typist, installation)


@pytest.fixture
def distant(link: Link, tmp_path: Path) -> Iterator[tuple[Typist, Installation]]:
    """Two machines without anything of worker on them; at the end nothing is left of the server."""
    sides = {}
    for end in ("server", "client"):
        directory = tmp_path / end
        directory.mkdir()
        environment = {"HOME": str(directory), "WORKER_HOME": str(directory / "state")}
        environment |= {"XDG_CONFIG_HOME": "", "WORKER_RESERVE": "64K"}
        sides[end] = Side(environment, directory, link.at(end, []))
    installation = Installation(tmp_path / "server" / "state")
    installation.command = link.at("server", installation.command)
    yield Typist(sides["server"], sides["client"], {"host.example.org": ADDRESS}), installation
    installation.down()
    assert_nothing_left(installation)


def test_two_machines(distant: tuple[Typist, Installation]) -> None:
    """Exactly what the page has, with the address of the host instead of its name."""
    follow_the_page(*distant)
