"""Whether other users can replace the settings, the policy or the TLS files of a server.

A user who can write to the directory of a file can rename another file over it, whatever its mode is.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ..api.tls import TlsSetupFailed
from ..linux.kernel.path_walk import weakness_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unprotected:
    """How others than root and this user can change or replace a file, and the command that prevents it."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        """Return both as one message."""
        return f"{self.problem}: {self.remedy}"


def how_unprotected(path: Path) -> Unprotected | None:
    """Return how other users can change or replace a file, None if they cannot; raise OSError."""
    weakness = weakness_of(str(path))
    if weakness is None:
        return None
    what = weakness.path
    named = what if what == str(path) else f"{what}, on the way to {path},"
    if weakness.owner is None:
        return Unprotected(f"{named} can be written by others than its owner", f"chmod go-w {what}")
    return Unprotected(
        f"{named} belongs to the uid {weakness.owner}; it must belong to root", f"chown root {what}"
    )


def refusal(path: Path) -> str:
    """Return why a server that runs as root must not use a file, which others can replace; or empty.

    A server of another user only logs it: with a umask of 002, which many systems have for users with a
    group of their own, the directories of that user can be written by this group.
    """
    try:
        found = how_unprotected(path)
    except OSError:  # the code that reads the file reports it
        return ""
    if found is None:
        return ""
    if os.geteuid() == 0:
        return str(found)
    log.warning("others can replace a file of the server: %s", found)
    return ""


def check_tls_file(path: Path) -> None:
    """Raise TlsSetupFailed for a TLS file that the server must not use."""
    if reason := refusal(path):
        raise TlsSetupFailed(reason)
