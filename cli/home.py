"""WORKER_HOME: where a worker keeps its keys, its state and its address."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .options.address import Address, parse_address
from .terminal.console import Failure

DEFAULT_PORT = 7443


@dataclass(frozen=True, slots=True)
class Home:
    """The directory and what is in it."""

    path: Path

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.path / "pki"

    @property
    def journal(self) -> Path:
        """What is known about every job."""
        return self.path / "journal.db"

    @property
    def server_lock(self) -> Path:
        """Held by the server for as long as it lives."""
        return self.path / "server.lock"

    @property
    def up_lock(self) -> Path:
        """Held by `worker up` until the server is ready."""
        return self.path / "up.lock"

    @property
    def log(self) -> Path:
        """What a server in the background has to say."""
        return self.path / "server.log"

    def make(self) -> None:
        """Make the directory, for its owner only; refuse one that others can change."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise Failure(
                f"{self.path} belongs to user {found.st_uid}; set WORKER_HOME to a directory of your own"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Failure(f"others can write to {self.path}; run: chmod 700 {self.path}")

    def record_address(self, address: Address) -> None:
        """Remember where the server listens, for clients of this home."""
        fresh = self.path / "address.new"
        fresh.write_text(f"{address.reachable}\n")
        fresh.replace(self.path / "address")

    def address(self) -> Address:
        """Return where the server listens, as far as it is known."""
        try:
            return parse_address((self.path / "address").read_text().strip())
        except (OSError, ValueError):  # never up, or not ours to read
            return Address("localhost", DEFAULT_PORT)


def worker_home() -> Home:
    """Return the home that the environment names."""
    if named := os.environ.get("WORKER_HOME"):
        return Home(Path(named).absolute())
    if os.geteuid() == 0:
        return Home(Path("/var/lib/worker"))
    # XDG: a relative path is to be ignored.
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return Home((state if state.is_absolute() else Path.home() / ".local" / "state") / "worker")
