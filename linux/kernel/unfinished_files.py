"""Whether another process has a file open to write to it, so that a part of it may be missing.

The kernel grants a lease for reading only if no process has the file open for writing: F_SETLEASE of
fcntl(2). Where it grants none for another reason, such as on NFS or to a user who does not own the file,
the answer is unknown.
"""

import fcntl
import os
import signal
from errno import EAGAIN
from pathlib import Path


def unfinished(path: Path) -> str:
    """Return that a process certainly has the file open for writing, with the remedy; otherwise empty."""
    if not _is_being_written(path):
        return ""
    return f"{path} is being written; write another file, and rename it to this name"


def _is_being_written(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # the code that reads the file reports it
        return False
    try:
        # An open(2) of another process breaks the lease; the default signal, SIGIO, would end this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == EAGAIN
    finally:
        os.close(descriptor)
    return False
