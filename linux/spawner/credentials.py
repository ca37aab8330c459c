"""Gives secrets to jobs as files, as LoadCredential= of systemd.exec(5) does."""

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from ...core.errors import ActionRefused, StorageUnavailable
from ...core.host.mountinfo import mount_of, parse_mountinfo
from ...core.model.job import JobId, job_ids_among
from ..state.credentials import credentials_base, credentials_link, remove_credentials
from .users import Account

_MEMORY = {"tmpfs", "ramfs"}
"""The kinds of file systems whose files are on no disk, but for swap."""


class Credentials:
    """The directories of all jobs with secrets. Every method may block."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._link = credentials_link(state_dir)

    def make(self, job: JobId, secrets: Mapping[str, bytes], who: Account) -> str:
        """Write the secrets for this account, and return their directory.

        The directory has mode 0500 and the files have 0400. Raises ActionRefused without a tmpfs, and
        StorageUnavailable; nothing is left then.
        """
        directory = f"{self._base()}/{job}"
        try:
            os.mkdir(directory, 0o700)
            for name, value in secrets.items():
                self._write(f"{directory}/{name}", value, who)
            self._give(directory, 0o500, who)
        except OSError as error:
            self.remove(job)
            raise StorageUnavailable(f"the secrets cannot be stored: {error.strerror}") from error
        return directory

    def exist(self, job: JobId) -> bool:
        """Whether there is a directory of a job."""
        base = credentials_base(self._state_dir)
        return base is not None and os.path.exists(f"{base}/{job}")

    def remove(self, job: JobId) -> None:
        """Delete the secrets of a job, and all that it has put beside them. Idempotent."""
        if not remove_credentials(self._state_dir, job):
            shutil.rmtree(f"{credentials_base(self._state_dir)}/{job}", ignore_errors=True)

    def sweep(self, keep: Collection[JobId]) -> None:
        """Delete the secrets of all other jobs."""
        base = credentials_base(self._state_dir)
        for job in job_ids_among(os.listdir(base) if base is not None else ()):
            if job not in keep:
                self.remove(job)

    def close(self) -> None:
        """Delete the directory and the link, unless jobs have secrets."""
        base = credentials_base(self._state_dir)
        if base is not None:
            with suppress(OSError):
                os.rmdir(base)
                os.unlink(self._link)

    def _write(self, path: str, value: bytes, who: Account) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(value)
        self._give(path, 0o400, who)

    def _give(self, path: str, mode: int, who: Account) -> None:
        os.chmod(path, mode)
        if who.uid is not None and who.gid is not None:
            os.chown(path, who.uid, who.gid)

    def _base(self) -> str:
        """Return the directory that the link leads to; make both, as after a restart of the machine."""
        base = credentials_base(self._state_dir)
        if base is not None:
            return base
        base = tempfile.mkdtemp(prefix="worker-", dir=_memory_directory())
        os.chmod(base, 0o711)  # noqa: S103 - users of jobs reach their own directory, and cannot list others
        new = f"{self._link}.new"
        with suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(base, new)
        os.replace(new, self._link)
        return base


def _memory_directory() -> str:
    """Return a directory in memory that we can write to; ActionRefused if there is none."""
    own = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
    for directory in filter(None, (own, "/dev/shm")):  # noqa: S108 - it is checked to be in memory
        mount = mount_of(Path(directory).resolve(), mounts)
        if mount is not None and mount.kind in _MEMORY and os.access(directory, os.W_OK | os.X_OK):
            return directory
    raise ActionRefused(
        "this server cannot pass secrets to jobs: neither /run (without root XDG_RUNTIME_DIR) nor /dev/shm "
        "is a tmpfs that it can write to"
    )
