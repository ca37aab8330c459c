"""Which part of cgroup v2 was handed to a process to manage, and making it ready for that.

https://systemd.io/CGROUP_DELEGATION: systemd marks the groups that it delegates with extended
attributes. To root every group is writable, but what is not marked is managed by systemd alone.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .. import kernel_files

_log = logging.getLogger(__name__)

SERVER_GROUP = "worker-server"
"""Where the processes of a delegated group go, so that controllers can be enabled for others below it."""

_ATTRIBUTES = ("user.delegate", "trusted.delegate")  # only root reads trusted ones; user: systemd 251
_UNIT_SUFFIXES = (".scope", ".service", ".slice")
_ROUNDS = 20


def delegated_group(top: Path, own: Path) -> Path | None:
    """Return the group that a process may manage; None: none, or the host's own root.

    ``top`` is the group seen at the mount point, ``own`` the one that the process is in.
    """
    return next((group for group in _candidates(top, own) if _is_ours(group, top)), None)


def vacate(group: Path) -> None:
    """Move what runs in a delegated group into a group below it.

    The kernel lets controllers into the groups below only where no process is in the group itself
    (the "no internal process" rule of cgroups(7)). Whoever it was delegated to has to see to that;
    there may be more processes than ourselves, such as the shell that started us.
    """
    server = group / SERVER_GROUP
    for _ in range(_ROUNDS):  # they may fork meanwhile
        inhabitants = _processes(group)
        if not inhabitants:
            return
        try:
            server.mkdir(exist_ok=True)
            for pid in inhabitants:
                with suppress(ProcessLookupError):
                    kernel_files.write(server / "cgroup.procs", pid)
        except OSError as error:
            _log.warning("%s cannot be vacated, so its controllers cannot be used: %s", group, error)
            return


def _candidates(top: Path, own: Path) -> Iterator[Path]:
    # A server that was started by what an earlier one has moved, or a unit with DelegateSubgroup=.
    in_unit = not own.name.endswith(_UNIT_SUFFIXES) and _is_marked(own.parent)
    if own != top and (own.name == SERVER_GROUP or in_unit):
        yield own.parent
    yield own


def _is_ours(group: Path, top: Path) -> bool:
    # The root of the whole tree has no type: it is nobody's to be handed over.
    if not (group / "cgroup.type").exists() or not _is_writable(group):
        return False
    # The root of a cgroup namespace is a container's own, whoever made it. The user's instance of
    # systemd 252 does not mark what it delegates: there the owner tells, as without any systemd.
    return group == top or _is_marked(group) or 0 != os.geteuid() == group.stat().st_uid


def _is_marked(group: Path) -> bool:
    for attribute in _ATTRIBUTES:
        with suppress(OSError):  # ENODATA, and ENOTSUP on Linux before 5.7
            if os.getxattr(group, attribute) == b"1":
                return True
    return False


def _is_writable(group: Path) -> bool:
    return os.access(group, os.W_OK | os.X_OK) and os.access(group / "cgroup.procs", os.W_OK)


def _processes(group: Path) -> list[str]:
    try:
        return (kernel_files.read(group / "cgroup.procs") or "").split()
    except OSError:  # EOPNOTSUPP of a threaded group
        return []
