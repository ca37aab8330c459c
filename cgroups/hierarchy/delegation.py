"""Finds the part of cgroup v2 that was delegated to a process, and prepares it for use.

https://systemd.io/CGROUP_DELEGATION: systemd marks the cgroups that it delegates with extended
attributes. Root can write every cgroup, but only systemd manages those without the mark.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...core.host.unit_names import SERVER_CGROUP, is_unit
from .. import kernel_files

_log = logging.getLogger(__name__)

_ATTRIBUTES = ("user.delegate", "trusted.delegate")  # only root reads trusted ones; user: systemd 251
_ROUNDS = 20


def find_delegated(top: Path, own: Path) -> Path | None:
    """Return the cgroup that a process may manage; None: there is none, or it is the root of the host.

    ``top`` is the cgroup at the mount point, ``own`` the one that the process is in.
    """
    return next((cgroup for cgroup in _candidates(top, own) if _is_ours(cgroup, top)), None)


def vacate(cgroup: Path) -> None:
    """Move the processes of a delegated cgroup into a cgroup below it.

    The kernel enables controllers for the cgroups below only where the cgroup itself has no process
    (the "no internal process" rule of cgroups(7)). The owner of a delegated cgroup has to ensure
    that; there may be more processes than this one, such as the shell that started it.
    """
    server = cgroup / SERVER_CGROUP
    for _ in range(_ROUNDS):  # processes may fork meanwhile
        processes = _processes(cgroup)
        if not processes:
            return
        try:
            server.mkdir(exist_ok=True)
            for pid in processes:
                with suppress(ProcessLookupError):
                    kernel_files.write(server / "cgroup.procs", pid)
        except OSError as error:
            _log.warning("cannot move processes out of %s; controllers unusable: %s", cgroup, error)
            return


def _candidates(top: Path, own: Path) -> Iterator[Path]:
    # An earlier server moved the process that started this one, or the unit has DelegateSubgroup=.
    in_unit = not is_unit(own.name) and _is_marked(own.parent)
    if own != top and (own.name == SERVER_CGROUP or in_unit):
        yield own.parent
    yield own


def _is_ours(cgroup: Path, top: Path) -> bool:
    # The root of the whole tree has no type: it is never delegated.
    if not (cgroup / "cgroup.type").exists() or not _is_writable(cgroup):
        return False
    # The root of a cgroup namespace belongs to the container. The user's instance
    # of systemd 252 does not mark what it delegates: there the owner decides, as without systemd.
    return cgroup == top or _is_marked(cgroup) or 0 != os.geteuid() == cgroup.stat().st_uid


def _is_marked(cgroup: Path) -> bool:
    for attribute in _ATTRIBUTES:
        with suppress(OSError):  # ENODATA, and ENOTSUP on Linux before 5.7
            if os.getxattr(cgroup, attribute) == b"1":
                return True
    return False


def _is_writable(cgroup: Path) -> bool:
    return os.access(cgroup, os.W_OK | os.X_OK) and os.access(cgroup / "cgroup.procs", os.W_OK)


def _processes(cgroup: Path) -> list[str]:
    try:
        return (kernel_files.read(cgroup / "cgroup.procs") or "").split()
    except OSError:  # EOPNOTSUPP of a threaded cgroup
        return []
