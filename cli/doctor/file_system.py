"""The file system that the state directory is on."""

import os
from dataclasses import dataclass
from pathlib import Path

from ...core.host.mountinfo import mount_of, parse_mountinfo

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
    """A mounted file system; ``free`` in bytes, for this user."""

    kind: str
    free: int
    read_only: bool

    @property
    def network(self) -> bool:
        """Whether other hosts may change it, so that locks and inotify are not reliable."""
        return self.kind in _NETWORK_FILE_SYSTEMS


def file_system(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> FileSystem:
    """Return the file system of an existing path."""
    status = os.statvfs(path)
    mount = mount_of(path.resolve(), parse_mountinfo(mountinfo.read_text(errors="surrogateescape")))
    kind = mount.kind if mount else "unknown"
    return FileSystem(kind, status.f_bavail * status.f_frsize, bool(status.f_flag & os.ST_RDONLY))
