"""WORKER_HOME: the directory of a worker's keys, state and address."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .terminal.console import Failure


@dataclass(frozen=True, slots=True)
class Home:
    """The directory and the paths in it."""

    path: Path

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.path / "pki"

    @property
    def journal(self) -> Path:
        """The database of job records."""
        return self.path / "journal.db"

    @property
    def address(self) -> Path:
        """Where the server listened last; see server_address."""
        return self.path / "address"

    @property
    def server_lock(self) -> Path:
        """Locked by the server as long as it runs."""
        return self.path / "server.lock"

    @property
    def up_lock(self) -> Path:
        """Locked by `worker up` until the server is ready."""
        return self.path / "up.lock"

    @property
    def log(self) -> Path:
        """The log of a server in the background."""
        return self.path / "server.log"

    @property
    def audit_log(self) -> Path:
        """The audit log, unless the settings name another place."""
        return self.path / "audit.log"

    def make(self) -> None:
        """Create the directory with mode 0700; raise Failure if another user owns it or can write to it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise Failure(
                f"{self.path} belongs to user {found.st_uid}; set WORKER_HOME to a directory of your own"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Failure(f"others can write to {self.path}; run: chmod 700 {self.path}")


def worker_home() -> Home:
    """Return the home that WORKER_HOME names, else the default of this user."""
    if named := os.environ.get("WORKER_HOME"):
        return Home(Path(named).absolute())
    if os.geteuid() == 0:
        return Home(Path("/var/lib/worker"))
    # XDG base directory specification: ignore a relative path.
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return Home((state if state.is_absolute() else Path.home() / ".local" / "state") / "worker")
