"""Imported by a .pth file: makes Python on Linux look as on macOS, before other modules are imported.

Removes the names that typeshed lists for Linux and not for macOS, from the modules that have such names;
`/proc`, `/sys` and the functions of libc cannot be reached either.
"""

import ctypes
import errno
import os
import re
import sys
from importlib import import_module

MISSING = {
    "select": ("EPOLL.*", "POLLMSG", "POLLRDHUP", "epoll"),  # first: the others look for epoll
    "os": (
        "(EFD|GRND|MFD|POSIX_FADV|RWF|SPLICE_F|XATTR)_.*",
        "O_(DIRECT|LARGEFILE|NOATIME|PATH|RSYNC|TMPFILE)",
        "(get|set)(resgid|resuid)",
        "(get|list|remove|set)xattr",
        "posix_(fadvise|fallocate)",
        "sched_[gs]et.*",
        "P_PIDFD|copy_file_range|eventfd.*|fdatasync|getrandom|memfd_create|pidfd_open|pipe2|setns|splice|unshare",
    ),
    "signal": ("SIG(CLD|POLL|PWR|RTMAX|RTMIN|STKFLT)", "pidfd_send_signal", "sigtimedwait", "sigwaitinfo"),
    "socket": (
        "(AF|PF)_(ALG|CAN|KEY|LLC|NETLINK|PACKET|QIPCRTR|RDS|TIPC|VSOCK)",
        "(ALG|CAN|NETLINK|PACKET|TIPC)_.*",
        "MSG_(CMSG_CLOEXEC|CONFIRM|ERRQUEUE|FASTOPEN|MORE)",
        "SO_(DOMAIN|INCOMING_CPU|MARK|PASSCRED|PASSSEC|PEERCRED|PEERSEC|PRIORITY|PROTOCOL)",
        "TCP_(CONGESTION|CORK|DEFER_ACCEPT|INFO|KEEPIDLE|LINGER2|QUICKACK|SYNCNT|USER_TIMEOUT|WINDOW_CLAMP)",
        "IP_TRANSPARENT|SCM_CREDENTIALS|SOCK_(CLOEXEC|NONBLOCK)",
    ),
    "fcntl": (
        "DN_.*",
        "F_(ADD_SEALS|GET_SEALS|SEAL_.*|[GS]ETPIPE_SZ|[GS]ETSIG|NOTIFY|EXLCK|SHLCK|[GS]ETLKW?64)",
        "LOCK_(MAND|READ|RW|WRITE)",
    ),
    "resource": ("RLIMIT_(MSGQUEUE|NICE|OFILE|RTPRIO|RTTIME|SIGPENDING)", "RUSAGE_THREAD", "prlimit"),
    "time": ("CLOCK_(BOOTTIME|TAI)", "pthread_getcpuclockid"),
    "errno": ("EBADFD|ECOMM|EKEY.*|ENOKEY|ENOMEDIUM|ENONET|EREMOTEIO|ERESTART|ERFKILL|EUCLEAN",),
    "mmap": ("MADV_(DODUMP|DOFORK|DONTDUMP|DONTFORK|HUGEPAGE|REMOVE)", "MAP_(DENYWRITE|POPULATE|STACK)"),
}
"""What each module lacks, as regular expressions."""


def remove(module: str, names: tuple[str, ...]) -> None:
    """Remove names from a module."""
    found = import_module(module)
    for name in [each for each in vars(found) if re.fullmatch("|".join(names), each)]:
        delattr(found, name)


def no_function(_: ctypes.CDLL, name: str) -> None:
    """Find no function in a library."""
    raise AttributeError(f"another system has no {name}")


def hide_files(event: str, arguments: tuple[object, ...]) -> None:
    """Find no file in /proc and /sys."""
    if event in {"open", "os.listdir", "os.scandir"} and isinstance(arguments[0], str | bytes):
        path = os.fsdecode(arguments[0])
        if path.startswith(("/proc/", "/sys/")):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


for module_name, missing in MISSING.items():
    remove(module_name, missing)
ctypes.CDLL.__getattr__ = no_function  # type: ignore[method-assign,assignment]
uname = os.uname
os.uname = lambda: os.uname_result(("Darwin", *uname()[1:]))
sys.platform = "darwin"
sys.addaudithook(hide_files)
