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

# Numbers of the generic table, the same on all architectures since Linux 5.1.
_CLONE3 = 435

_CLONE_PARENT = 0x8000
_CLONE_INTO_CGROUP = 0x200000000  # Linux 5.7
_CLONE_ARGS = struct.Struct("=11Q")
_PR_SET_CHILD_SUBREAPER = 36

_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes), Linux 6.13
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15
_PIDFD_INFO = struct.Struct("=QQ11Ii")

# Older calls have no common number: asm/unistd_64.h on x86, asm-generic/unistd.h elsewhere.
_CLONE, _RT_SIGACTION = (56, 13) if os.uname().machine == "x86_64" else (220, 134)
_DEFAULT_ACTION = bytes(32)  # struct sigaction of the kernel: SIG_DFL, no flags, no mask
_NO_SIGNAL = bytes(128)  # sigset_t of glibc and musl


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def clone3_into_cgroup(cgroup_fd: int, *, sibling: bool = False) -> int:
    """Clone a child into a cgroup of v2; return its pid, 0 in the child.

    Only for a process with one thread: Python is not notified of the fork. ``sibling``: the child gets
    the parent of this process.
    """
    # The kernel signals the exit of a sibling as it would ours; any exit_signal here is EINVAL.
    parent, end_signal = (_CLONE_PARENT, 0) if sibling else (0, signal.SIGCHLD)
    flags = _CLONE_INTO_CGROUP | parent
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, its size, tls, set_tid, its size, cgroup
    packed = _CLONE_ARGS.pack(flags, 0, 0, 0, end_signal, 0, 0, 0, 0, 0, cgroup_fd)
    arguments = ctypes.create_string_buffer(packed, _CLONE_ARGS.size)
    return _checked(_syscall(_CLONE3, arguments, _CLONE_ARGS.size), "clone3")


def clone_sibling() -> int:
    """Clone a child that gets the parent of this process; otherwise as ``clone3_into_cgroup``."""
    return _checked(_syscall(_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0), "clone")


def reset_reserved_signals() -> None:
    """Reset signals 32 and 33 to their default disposition; glibc reserves them and refuses to."""
    for number in (32, 33):
        _checked(_syscall(_RT_SIGACTION, number, _DEFAULT_ACTION, None, 8), "rt_sigaction")


def unblock_signals() -> None:
    """Unblock all signals. Python's pthread_sigmask creates an enum member for each that was blocked."""
    _checked(_libc.sigprocmask(signal.SIG_SETMASK, _NO_SIGNAL, None), "sigprocmask")


def become_subreaper() -> None:
    """Reparent orphaned descendants to this process (prctl(2))."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def pidfd_wait_status(pidfd: int) -> int | None:
    """Return the wait(2) status of a process reaped by another process, None if it is not reaped yet.

    Raises OSError where the kernel does not keep it: before Linux 6.15.
    """
    asked = _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13)
    mask, *_, status = _PIDFD_INFO.unpack(fcntl.ioctl(pidfd, _PIDFD_GET_INFO, asked))
    return int(status) if mask & _PIDFD_INFO_EXIT else None
