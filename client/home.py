"""WORKER_HOME, as far as its clients use it: keys, and the address of the server."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The directory and the paths in it."""

    path: Path

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.path / "pki"

    @property
    def address(self) -> Path:
        """Where the server listened last; see client/address.py."""
        return self.path / "address"

    @property
    def keys(self) -> tuple[Path, Path] | None:
        """Certificate and key of the writer, or of the reader if the writer's key is not readable."""
        for role in ("writer", "reader"):
            if os.access(key := self.pki / f"{role}.key", os.R_OK):
                return self.pki / f"{role}.crt", key
        return None


def home_directory() -> Path:
    """Return the directory that WORKER_HOME names, else the default of this user."""
    if named := os.environ.get("WORKER_HOME"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/worker")
    return base_directory("XDG_STATE_HOME", ".local/state") / "worker"


def base_directory(variable: str, default: str) -> Path:
    """Return a directory of the XDG base directory specification, which ignores a relative path."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / default
