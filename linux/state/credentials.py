"""The directories with the secrets of jobs: on a tmpfs, so that no disk ever has them.

The link ``credentials`` in the state directory leads to a directory of ours there, which has one directory
for each job with secrets. linux/spawner/credentials.py makes them.
"""

import os
import stat
from contextlib import suppress
from itertools import islice

from .job_directory import StrPath

VARIABLE = "CREDENTIALS_DIRECTORY"
"""The variable of the job's environment with its directory; the name is that of systemd.exec(5)."""

_MOST_FILES = 1000
"""Files deleted at once. A job may have made more; the server deletes these without delaying others."""


def credentials_link(state_dir: StrPath) -> str:
    """Return the path of the link."""
    return f"{state_dir}/credentials"


def credentials_base(state_dir: StrPath) -> str | None:
    """Return the directory that the link leads to, None if there is none of ours.

    After a restart of the machine another user may have made one with its name.
    """
    try:
        base = os.readlink(credentials_link(state_dir))
        found = os.lstat(base)
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return base if ours else None


def remove_credentials(state_dir: StrPath, job: object) -> bool:
    """Delete the secrets of a job that has ended; return False if the job has made more files there.

    Idempotent. Never follows a link of the job: it can replace neither its directory nor those above.
    """
    base = credentials_base(state_dir)
    if base is None:
        return True
    directory = f"{base}/{job}"
    try:
        os.chmod(directory, 0o700)  # without root we cannot delete files in it otherwise
        with os.scandir(directory) as entries:
            for entry in islice(entries, _MOST_FILES):
                with suppress(IsADirectoryError, PermissionError):
                    os.unlink(entry)
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
