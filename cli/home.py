"""WORKER_HOME: the directory of a worker's keys, state and address."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..client import home as client_home
from .private_files import exposed_files, is_exposed, restrict
from .terminal.console import Failure


@dataclass(frozen=True, slots=True)
class Home(client_home.Home):
    """The directory and the paths in it that only the server uses."""

    @property
    def journal(self) -> Path:
        """The database of job records."""
        return self.path / "journal.db"

    @property
    def server_lock(self) -> Path:
        """Locked by the server as long as it runs."""
        return self.path / "server.lock"

    @property
    def up_lock(self) -> Path:
        """Locked by `worker up` until the server is ready."""
        return self.path / "up.lock"

    @property
    def last_up(self) -> Path:
        """The options of the last `worker up`."""
        return self.path / "last-up"

    @property
    def log(self) -> Path:
        """The log of a server in the background."""
        return self.path / "server.log"

    @property
    def audit_log(self) -> Path:
        """The audit log, unless the settings name another place."""
        return self.path / "audit.log"

    def make(self) -> list[Path]:
        """Create the directory with mode 0700, or take access to it and its files from others.

        Returns what others had access to. Raises Failure if another user owns the directory, if others can
        write to it, or if others have access to it and it is not evidently that of a worker.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise Failure(
                f"{self.path} belongs to user {found.st_uid}; set WORKER_HOME to a directory of your own"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Failure(f"others can write to {self.path}; run: chmod 700 {self.path}")
        if is_exposed(self.path) and not self._is_ours:
            raise Failure(
                f"others can read {self.path}, which has files that are not those of a worker; "
                f"run: chmod 700 {self.path}, or set WORKER_HOME to a directory of its own"
            )
        exposed = list(exposed_files(self.path))
        for path in exposed:
            try:
                restrict(path)
            except OSError as error:
                reason = f"others have access to {path}, and that cannot be changed: {error.strerror}"
                raise Failure(reason) from None
        return exposed

    @property
    def _is_ours(self) -> bool:
        """Whether a server has used the directory, or nothing has."""
        return self.journal.exists() or self.server_lock.exists() or not any(self.path.iterdir())


def worker_home() -> Home:
    """Return the home that WORKER_HOME names, else the default of this user."""
    return Home(client_home.home_directory())
