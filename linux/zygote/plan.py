"""What the supervisor sends to the zygote: the layouts of plan.h."""

import fcntl
import os
import resource
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..ipc.encoding import SpawnPlan

MOST_HELD = 8
"""Files in one request."""

CLONE, HOLD, DROP, SEIZE = 1, 2, 3, 4

ANSWER = struct.Struct("=ii")
"""Pid of a child, or 0 and the errno of clone(2)."""

_REQUEST = struct.Struct(f"=II{MOST_HELD}I")
_PLAN = struct.Struct("=10I")
_RLIMIT = struct.Struct("=QQQ")
_CHANGE_USER, _NO_NEW_PRIVS, _TERMINAL = 1, 2, 4
_NO_ONE = 0xFFFFFFFF  # (uid_t) -1: not read

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class HistoryPaths(NamedTuple):
    """The names of a history before and after the child has recorded itself in it."""

    provisional: str
    final: str


def request(kind: int, slots: Sequence[int]) -> bytes:
    """Return a request; ``slots`` are those of the files to hold or to drop."""
    return _REQUEST.pack(kind, len(slots), *slots, *(MOST_HELD - len(slots)) * (0,))


def sealed(plan: bytes) -> int:
    """Return a memfd with these bytes, sealed against every change."""
    fd = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, len(plan))  # then one write(2) writes it whole, or fails
        os.write(fd, plan)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def packed(plan: SpawnPlan, history: HistoryPaths) -> bytes:
    """Return a plan in the layout of struct plan and what follows it."""
    limits = _rlimits(plan)
    joins = _joins(plan.placement.legacy)
    paths = _executables(plan)
    directory, components = _directory(plan)
    env = [f"{name}={value}" for name, value in plan.env.items()]
    texts = (
        plan.placement.unified or "",
        *history,
        directory,
        *components,
        *joins,
        *paths,
        *plan.argv,
        *env,
        "",
    )
    changes_user = plan.uid is not None and plan.gid is not None
    header = _PLAN.pack(
        (_CHANGE_USER if changes_user else 0)
        | (_NO_NEW_PRIVS if plan.no_new_privs else 0)
        | (_TERMINAL if plan.spec.terminal is not None else 0),
        _NO_ONE if plan.uid is None else plan.uid,
        _NO_ONE if plan.gid is None else plan.gid,
        len(plan.groups),
        len(limits),
        len(joins),
        len(paths),
        len(plan.argv),
        len(env),
        len(components),
    )
    return b"".join(
        (
            header,
            *(_RLIMIT.pack(*limit) for limit in limits),
            struct.pack(f"={len(plan.groups)}I", *plan.groups),
            # Paths as the kernel has given them; the rest as UTF-8, whatever the locale of the worker is.
            b"\0".join(os.fsencode(each) if each in history else each.encode() for each in texts),
        )
    )


def _rlimits(plan: SpawnPlan) -> list[tuple[int, int, int]]:
    """Return the limits of setrlimit(2) that a job does not inherit: number, soft and hard limit."""
    chosen = list(plan.rlimits)
    if any(number == resource.RLIMIT_NOFILE for number, *_ in chosen):
        return chosen
    # The soft limit of a fresh service: many programs break with more than 1024 descriptors. The zygote
    # itself needs more, for the FIFOs.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [(resource.RLIMIT_NOFILE, min(1024, hard), hard), *chosen]


def _directory(plan: SpawnPlan) -> tuple[str, list[str]]:
    """Return the directory to change to, and the components from there, none of which may be a link."""
    if not plan.exact_directory:
        return plan.working_directory, []
    return "/", [each for each in plan.exact_directory.split("/") if each]


def _joins(legacy: Sequence[str]) -> list[str]:
    """Return the files by which cgroups of v1 are joined."""
    # `tasks`: a thread that moves itself and no other spares the kernel (5.4) a lock that takes an RCU
    # grace period after idleness, 10 ms and more; and the child has one thread.
    return [f"{group}/tasks" for group in legacy]


def _executables(plan: SpawnPlan) -> list[str]:
    """Return the files to try, from the job's own PATH as execvpe(3) does."""
    command = plan.executable
    if "/" in command:
        return [command]
    return [f"{directory or '.'}/{command}" for directory in plan.env.get("PATH", "").split(":")]
