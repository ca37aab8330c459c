"""System calls that the standard library does not offer, through ctypes.

PyDLL keeps the GIL during a call: the child of clone3 must hold it.
"""

import ctypes
import fcntl
import os
import signal
import struct

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall

_CLONE3 = 435  # the same on all architectures

_CLONE_INTO_CGROUP = 0x200000000  # Linux 5.7
_CLONE_ARGS = struct.Struct("=11Q")
_PR_SET_CHILD_SUBREAPER = 36
_KEYCTL_JOIN_SESSION_KEYRING = 1
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # FALLOC_FL_*

_PIDFD_GETFD = 438  # Linux 5.6, the same on all architectures
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes), Linux 6.13
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15
_PIDFD_INFO = struct.Struct("=QQ11Ii")

# An older call has no common number: asm/unistd_64.h on x86, asm-generic/unistd.h elsewhere.
_KEYCTL = 250 if os.uname().machine == "x86_64" else 219


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def clone3_into_cgroup(cgroup_fd: int) -> int:
    """Clone a child into a cgroup of v2; return its pid, 0 in the child.

    Only for a process with one thread: Python is not notified of the fork.
    """
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, its size, tls, set_tid, its size, cgroup
    packed = _CLONE_ARGS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, cgroup_fd)
    arguments = ctypes.create_string_buffer(packed, _CLONE_ARGS.size)
    return _checked(_syscall(_CLONE3, arguments, _CLONE_ARGS.size), "clone3")


def become_subreaper() -> None:
    """Reparent orphaned descendants to this process (prctl(2))."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def join_new_session_keyring() -> None:
    """Join a new, empty session keyring (keyctl(2)); EDQUOT, EPERM or ENOSYS where that is refused."""
    _checked(_syscall(_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None, 0, 0, 0), "keyctl")


def punch_hole(fd: int, offset: int, size: int) -> None:
    """Free the blocks of a part of a file, which then reads as zeros (fallocate(2))."""
    arguments = (ctypes.c_int64(offset), ctypes.c_int64(size))
    _checked(_libc.fallocate64(fd, _PUNCH_HOLE | _KEEP_SIZE, *arguments), "fallocate")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Return a duplicate of a descriptor of another process, which we must be allowed to trace."""
    return _checked(_syscall(_PIDFD_GETFD, pidfd, fd, 0), "pidfd_getfd")


def pidfd_wait_status(pidfd: int) -> int | None:
    """Return the wait(2) status of a process reaped by another process, None if it is not reaped yet.

    Raises OSError where the kernel does not keep it: before Linux 6.15.
    """
    asked = _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13)
    mask, *_, status = _PIDFD_INFO.unpack(fcntl.ioctl(pidfd, _PIDFD_GET_INFO, asked))
    return int(status) if mask & _PIDFD_INFO_EXIT else None
