"""Where things lie under the state directory.

jobs/ID/                of a job, see linux/state/job_directory.py
supervisor/log          of every supervisor and recorder
supervisor/GENERATION/  socket and lock of a supervisor, lock of its recorder
"""

import socket
import struct
from pathlib import Path

_UCRED = struct.Struct("iII")


class Layout:
    """Paths under one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.jobs = state_dir / "jobs"
        self.supervisor = state_dir / "supervisor"

    def generation(self, name: str) -> Path:
        """Return the directory of a generation of supervisors; "" is that of protocol 1."""
        return self.supervisor / name

    def make(self) -> None:
        """Create the directories, closed to everybody else."""
        for directory in (self.state_dir, self.jobs, self.supervisor):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def job(self, job: object) -> str:
        """Return the directory of a job."""
        return f"{self.jobs}/{job}"


def socket_address(directory_fd: int, name: str) -> str:
    """Return an address for a socket below an open directory, short enough for 107 bytes."""
    return f"/proc/self/fd/{directory_fd}/{name}"


def peer_user(connection: socket.socket) -> int:
    """Return the uid at the other end of a unix socket (SO_PEERCRED in unix(7))."""
    return _peer_credentials(connection)[1]


def peer_process(connection: socket.socket) -> int:
    """Return the pid at the other end of a unix socket; of a listener, whoever called listen(2)."""
    return _peer_credentials(connection)[0]


def _peer_credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return pid, uid and gid: struct ucred."""
    return _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
