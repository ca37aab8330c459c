"""System calls that the standard library does not offer, through ctypes.

PyDLL keeps the GIL during a call: after clone3 the child must find it held.
"""

import ctypes
import errno
import fcntl
import os
import signal
import struct

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall

# Numbers of the generic table, the same on all architectures since Linux 5.1.
_PIDFD_SEND_SIGNAL = 424
_CLONE3 = 435
_CLOSE_RANGE = 436

_CLONE_INTO_CGROUP = 0x200000000  # Linux 5.7
_CLONE_ARGS = struct.Struct("=11Q")
_PR_SET_CHILD_SUBREAPER = 36

_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes), Linux 6.13
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15
_PIDFD_INFO = struct.Struct("=QQ11Ii")

# rt_sigaction has no common number: asm/unistd_64.h of x86, asm-generic/unistd.h of the others.
_RT_SIGACTION = 13 if os.uname().machine == "x86_64" else 134
_DEFAULT_ACTION = bytes(32)  # struct sigaction of the kernel: SIG_DFL, no flags, no mask

HIGHEST_FD = (1 << 32) - 1


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def clone3_into_cgroup(cgroup_fd: int) -> int:
    """Fork a child that is born inside a cgroup of v2; return its pid, 0 in the child.

    Only for a process with one thread: Python is not told of the fork.
    """
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, its size, tls, set_tid, its size, cgroup
    packed = _CLONE_ARGS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, cgroup_fd)
    arguments = ctypes.create_string_buffer(packed, _CLONE_ARGS.size)
    return _checked(_syscall(_CLONE3, arguments, _CLONE_ARGS.size), "clone3")


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` up."""
    if _syscall(_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(HIGHEST_FD), ctypes.c_uint(0)) < 0:
        if ctypes.get_errno() != errno.ENOSYS:  # Linux 5.9
            _checked(-1, "close_range")
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def reset_reserved_signals() -> None:
    """Give the signals 32 and 33 their default disposition; glibc keeps them to itself and refuses."""
    for number in (32, 33):
        _checked(_syscall(_RT_SIGACTION, number, _DEFAULT_ACTION, None, 8), "rt_sigaction")


def become_subreaper() -> None:
    """Have orphaned descendants reparented to this process (prctl(2))."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Signal the process that a pidfd stands for; ProcessLookupError if it is gone."""
    _checked(_syscall(_PIDFD_SEND_SIGNAL, pidfd, number, None, 0), "pidfd_send_signal")


def pidfd_wait_status(pidfd: int) -> int | None:
    """Return the wait(2) status of a process that somebody else has reaped, None if it is not reaped yet.

    Raises OSError where the kernel does not keep it: before Linux 6.15.
    """
    asked = _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13)
    mask, *_, status = _PIDFD_INFO.unpack(fcntl.ioctl(pidfd, _PIDFD_GET_INFO, asked))
    return int(status) if mask & _PIDFD_INFO_EXIT else None
