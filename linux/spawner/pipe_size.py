"""The size of the pipe that takes the output of a job."""

import errno
import fcntl
import os

from ...core.errors import InvalidJobSpec, QuotaExceeded


def set_pipe_size(fifo: int, size: int) -> None:
    """Set the capacity of an open FIFO, which lasts until all have closed it; see pipe(7).

    Raises InvalidJobSpec above what this process may set, and QuotaExceeded if the pipes of its user
    have reached their bound. Root has neither.
    """
    try:
        fcntl.fcntl(fifo, fcntl.F_SETPIPE_SZ, size)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOMEM}:
            raise
        most = _sysctl("fs/pipe-max-size")
        if error.errno == errno.EPERM and 1 << (size - 1).bit_length() > most:  # the kernel rounds up
            raise InvalidJobSpec(
                "pipe size", f"{size} bytes; a worker without root can set {most} (fs.pipe-max-size)"
            ) from None
        raise QuotaExceeded(
            f"pipe size: {os.strerror(error.errno)}: the pipes of the worker's user have used up "
            f"fs.pipe-user-pages-soft, {_sysctl('fs/pipe-user-pages-soft')} pages; "
            "request less, or wait until other jobs have ended"
        ) from None


def _sysctl(name: str) -> int:
    with open(f"/proc/sys/{name}") as file:
        return int(file.read())
