"""Where things lie under the state directory.

jobs/ID/CHANNEL.fifo       what the job has as stdout and stderr, until the output is complete
jobs/ID/CHANNEL-OFFSET     a segment of recorded output; OFFSET is that of its first byte
jobs/ID/history            what the supervisor writes down of the job, until its end is journaled
jobs/ID/history.unborn     the same before it names the job's process
jobs/ID/history.unreadable the same of a job that was LOST because somebody has spoiled it
supervisor/log             of every supervisor and recorder
supervisor/GENERATION/     socket and lock of a supervisor, lock of its recorder
"""

import os
import socket
import struct
from pathlib import Path

from ..core.channel import Channel

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

    def job(self, job: object) -> Path:
        """Return the directory of a job."""
        return self.jobs / str(job)


def fifo_path(directory: Path, channel: Channel) -> Path:
    """Return where a channel's FIFO lies in the directory of a job."""
    return directory / f"{channel}.fifo"


def segment_path(directory: Path, channel: Channel, base: int) -> Path:
    """Return the segment whose first byte has the offset ``base``."""
    return directory / f"{channel}-{base}"


def segment_bases(directory: Path, channel: Channel) -> list[int]:
    """Return the offsets at which segments begin, in order; FileNotFoundError without the directory."""
    prefix = f"{channel}-"
    offsets = (name.removeprefix(prefix) for name in os.listdir(directory) if name.startswith(prefix))
    return sorted(int(offset) for offset in offsets if offset.isdecimal())


def history_path(directory: Path) -> Path:
    """Return where the supervisor writes down what becomes of a job."""
    return directory / "history"


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
