"""What this machine can do for a worker, tried out rather than read from version numbers.

A probe returns when the thing works and raises OSError, which says why, when it does not. Nothing
is left behind. Only for a process with one thread: they fork.
"""

import errno
import os
import re
import resource
import signal
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import syscalls
from .locks import open_lock, try_lock

_EXIT_CODE = 7
_ESCAPE = re.compile(r"\\([01][0-7]{2})")
_NETWORK_FILE_SYSTEMS = {
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.sshfs",
    "glusterfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
}


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Where a path lies; ``free`` in bytes, for this user."""

    kind: str
    point: str
    free: int
    read_only: bool

    @property
    def network(self) -> bool:
        """Whether others may change it behind our back, and locks and inotify cannot be relied on."""
        return self.kind in _NETWORK_FILE_SYSTEMS


def pidfd() -> None:
    """Refer to a process by descriptor: Linux 5.3, and a seccomp filter that lets it through."""
    fd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)


def exit_kept_by_pidfd() -> None:
    """Read the exit code of a process that somebody else has reaped: Linux 6.15."""
    pid = os.fork()
    if pid == 0:
        os._exit(_EXIT_CODE)
    fd = os.pidfd_open(pid)
    try:
        os.waitpid(pid, 0)
        status = syscalls.pidfd_wait_status(fd)
    finally:
        os.close(fd)
    if status is None or os.waitstatus_to_exitcode(status) != _EXIT_CODE:
        raise OSError(errno.ENODATA, "the kernel does not keep it")


def birth_in_group(base: Path) -> None:
    """Have a process born in a control group of v2, made below ``base``: clone3(2), Linux 5.7."""
    group = base / f"worker-doctor-{os.getpid()}"
    group.mkdir()
    try:
        fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            pid = syscalls.clone3_into_cgroup(fd)
            if pid == 0:
                os._exit(0)
        finally:
            os.close(fd)
        os.waitpid(pid, 0)
    finally:
        group.rmdir()


def recording(directory: Path) -> None:
    """Move bytes from a FIFO into a file of a directory, with a lock on it, as the recorder does."""
    with tempfile.TemporaryDirectory(prefix=".doctor.", dir=directory) as place:
        fifo = Path(place, "fifo")
        os.mkfifo(fifo)
        source = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        file = open_lock(Path(place, "segment"))
        try:
            if not try_lock(file):
                raise OSError(errno.ENOLCK, "a lock is not granted")
            os.write(source, b"x")
            os.splice(source, file, 1, offset_dst=0)
        finally:
            os.close(file)
            os.close(source)


def file_system(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> FileSystem:
    """Return where an existing path lies."""
    place = os.statvfs(path)
    kind, point = find_mount(path.resolve(), mountinfo.read_text(errors="surrogateescape").split("\n"))
    read_only = bool(place.f_flag & os.ST_RDONLY)
    return FileSystem(kind, point, place.f_bavail * place.f_frsize, read_only)


def find_mount(path: Path, mountinfo: Iterable[str]) -> tuple[str, str]:
    """Return type and mount point of the file system of a path (proc_pid_mountinfo(5))."""
    found = ("unknown", "/")
    for line in mountinfo:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 6:
            continue
        # Blanks and the like are written as \040.
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        # A later mount hides an earlier one at the same place.
        if path.is_relative_to(point) and len(point) >= len(found[1]):
            found = (right.split(" ")[0], point)
    return found


def open_files() -> int:
    """Return how many descriptors a process may have at most; the supervisor raises its limit to that."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
