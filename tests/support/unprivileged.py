"""A worker that an unprivileged user runs, on a machine where the tests run as root."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .installation import Installation, assert_nothing_left

UID = 64999
"""A user without an entry in the user database, and with the group of the same number."""


class UnprivilegedInstallation(Installation):
    """A WORKER_HOME whose commands run as ``UID``."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.command = [*identity(), *self.command]
        self.env["HOME"] = str(home)


def identity() -> list[str]:
    """Return the command that changes the user, and keeps the interpreter reachable."""
    identity = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    again = (
        "import os, sys; os.execv(sys.executable, [sys.executable, '-c', ''])"  # setpriv may search more
    )
    if subprocess.call([*identity, sys.executable, "-c", again], stderr=subprocess.DEVNULL) == 0:
        return identity
    # It is in a home directory of root.
    return [*identity, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


@contextmanager
def unprivileged_installation() -> Iterator[UnprivilegedInstallation]:
    """Yield a running worker in a directory that its user may reach; pytest's own are only for root."""
    directory = Path(tempfile.mkdtemp(prefix="worker-unprivileged-"))
    home = directory / "home"
    home.mkdir(mode=0o700)
    for path in (directory, home):
        os.chown(path, UID, UID)
    installation = UnprivilegedInstallation(home)
    try:
        installation.worker("certs", "init", "--key-type", "p256")
        installation.worker("up")
        yield installation
        installation.down()
        assert_nothing_left(installation)
    finally:
        shutil.rmtree(directory)


@contextmanager
def home_of_another_user() -> Iterator[Path]:
    """Yield a directory that belongs to ``UID``, where this process may run commands as another user."""
    directory = Path(tempfile.mkdtemp(prefix="worker-laptop-"))
    if can_become_unprivileged():
        os.chown(directory, UID, UID)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def can_become_unprivileged() -> bool:
    """Whether this process may run commands as another user."""
    return os.geteuid() == 0 and shutil.which("setpriv") is not None
