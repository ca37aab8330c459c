"""The zygote: a small process that clones the jobs for its supervisor.

The kernel copies the page tables of whoever clones, and each page that either side writes to before
the exec: the smaller that process is, the sooner a job is born. The children are the supervisor's
own (CLONE_PARENT), which reaps them, and outlive the zygote.

A request is its length, then marshal of ``Request``, and with its first byte the newborn's descriptors.
Both sides run the same Python, so marshal is safe, and spares us json.
"""

import errno
import gc
import marshal
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import TypeAlias

from ..core.steps import Step, reached
from . import crash_points
from .kernel import syscalls
from .newborn import Command, Descriptors, become

Request: TypeAlias = tuple[str | None, tuple[str, ...], Command]
"""The control group of v2 to be born in, those of v1 to join, and what to become."""

LENGTH = struct.Struct("=I")
ANSWER = struct.Struct("=ii")
"""The pid of a child that waits for its release, or 0 and the errno of clone(2)."""

_DESCRIPTORS = struct.Struct("=5i")
_ANCILLARY = socket.CMSG_SPACE(_DESCRIPTORS.size)

# Plain numbers: what an enumeration does in Python would have the kernel copy another dozen pages.
_WAITALL = int(socket.MSG_WAITALL)
_FLAGS = int(socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC)


def main() -> None:
    """Run as ``python -m worker.linux.zygote SOCKET_FD``, as long as the supervisor holds the other end."""
    crash_points.enable("zygote")
    settle()
    # ConnectionError: the supervisor has died, maybe with an answer unread.
    with socket.socket(fileno=int(sys.argv[1])) as supervisor, suppress(ConnectionError):
        supervisor.set_inheritable(False)
        while received := _receive(supervisor):
            request, descriptors = received
            answer = _bear(request, descriptors, supervisor)
            for fd in descriptors:
                os.close(fd)
            supervisor.sendall(answer)


def settle() -> None:
    """Be in everything that is inherited what a job should be, so that its birth has less to do.

    No signal is ever taken, neither here nor before the exec: their actions are the job's already.
    """
    gc.disable()  # it writes to every object, and so has the kernel copy every page
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in signal.valid_signals():
        # Python ignores SIGPIPE and SIGXFSZ, and a parent may have left others.
        if signal.getsignal(number) not in {signal.SIG_DFL, None}:
            signal.signal(number, signal.SIG_DFL)
    syscalls.reset_reserved_signals()
    os.umask(0o022)
    # Those of a fresh service: many programs break with more than 1024 descriptors.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = 1024 if hard == resource.RLIM_INFINITY else min(1024, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Lowering it needs CAP_SYS_RESOURCE; without, it is our own parent's choice.
    with suppress(PermissionError), open("/proc/self/oom_score_adj", "wb") as oom_score_adj:
        oom_score_adj.write(b"0")
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


def _receive(supervisor: socket.socket) -> tuple[Request, Descriptors] | None:
    """Return what is asked for; None if the supervisor has gone."""
    # Not by recv_fds: Python 3.11 drops its flags.
    header, ancillary, *_ = supervisor.recvmsg(LENGTH.size, _ANCILLARY, _FLAGS)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    request = supervisor.recv(length, _WAITALL)
    if len(request) < length:
        return None
    release, errors, stdout, stderr, history = _DESCRIPTORS.unpack(ancillary[0][2])
    loaded: Request = marshal.loads(request)  # noqa: S302 - it comes from our own parent
    return loaded, (release, errors, stdout, stderr, history)


def _bear(request: Request, descriptors: Descriptors, supervisor: socket.socket) -> bytes:
    """Clone a child; return the answer. In the child: become the job."""
    unified, legacy, command = request
    # `tasks`: a thread that moves itself and no more spares the kernel (5.4) a lock that takes an
    # RCU grace period after idleness, 10 ms and more; and the child has but one thread.
    joins = [f"{group}/tasks" for group in legacy]
    try:
        pid = None if unified is None else _clone_into(unified)
        if pid is None:
            if unified is not None:
                joins.append(f"{unified}/cgroup.procs")
            pid = syscalls.clone_sibling()
    except OSError as error:
        return ANSWER.pack(0, error.errno or errno.EIO)
    if pid == 0:
        # Else the death of the zygote would not be noticed as long as the child waits.
        os.close(supervisor.fileno())
        become(command, joins, descriptors)
    reached(Step.CLONED)
    return ANSWER.pack(pid, 0)


def _clone_into(unified: str) -> int | None:
    """Clone a child into a control group; None if this kernel cannot, OSError if it will not."""
    cgroup = os.open(unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.clone3_into_cgroup(cgroup, sibling=True)
    except OSError as error:
        # Linux before 5.7, and containers whose seccomp filter refuses clone3.
        if error.errno not in {errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EINVAL}:
            raise
        return None
    finally:
        os.close(cgroup)


if __name__ == "__main__":
    main()
