"""Probes of this machine: each tries a feature out instead of reading version numbers.

A probe returns if the feature works, and raises OSError with the reason if it does not. It leaves
nothing behind. Only for a process with one thread: probes fork.
"""

import errno
import os
import resource
import signal
import tempfile
from pathlib import Path

from . import syscalls
from .locks import open_lock, try_lock

_EXIT_CODE = 7


def pidfd() -> None:
    """Refer to a process by descriptor: Linux 5.3, and a seccomp filter that allows it."""
    fd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)


def exit_kept_by_pidfd() -> None:
    """Read the exit code of a process that was already reaped: Linux 6.15."""
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


def session_keyring() -> None:
    """Join a new session keyring, in a child so that this process keeps its own."""
    pid = os.fork()
    if pid == 0:
        number = 0
        try:
            syscalls.join_new_session_keyring()
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os._exit(number)
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if number:
        raise OSError(number, os.strerror(number))


def has_no_new_privs() -> bool:
    """Whether no program that this process executes can get new privileges: prctl(2)."""
    with open("/proc/self/status") as status:
        return "\nNoNewPrivs:\t1\n" in status.read()


def clone_into_cgroup(cgroup: Path) -> None:
    """Create a cgroup of v2, clone a process into it with clone3(2) (Linux 5.7), and remove the cgroup."""
    cgroup.mkdir()
    try:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            pid = syscalls.clone3_into_cgroup(fd)
            if pid == 0:
                os._exit(0)
        finally:
            os.close(fd)
        os.waitpid(pid, 0)
    finally:
        cgroup.rmdir()


def recording(directory: Path) -> None:
    """Move bytes from a FIFO into a locked file in a directory, as the recorder does."""
    with tempfile.TemporaryDirectory(prefix=".doctor.", dir=directory) as scratch:
        fifo = Path(scratch, "fifo")
        os.mkfifo(fifo)
        source = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        file = open_lock(Path(scratch, "segment"))
        try:
            if not try_lock(file):
                raise OSError(errno.ENOLCK, "cannot lock a file")
            os.write(source, b"x")
            os.splice(source, file, 1, offset_dst=0)
        finally:
            os.close(file)
            os.close(source)


def open_files() -> int:
    """Return the hard limit of open files of a process; the supervisor raises its soft limit to it."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
