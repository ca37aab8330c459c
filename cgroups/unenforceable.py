"""Why a limit cannot hold on this host, and what helps."""

import os
from pathlib import Path

from ..core.errors import LimitsUnsupported
from . import kernel_files
from .hierarchy.hierarchy import LEGACY_NAMES

REMEDY = (
    "run the worker as root, or in a group that is delegated to its user "
    "(systemd-run --user --scope -p Delegate=yes, or Delegate=yes in its unit)"
)
_DELEGATE = (
    "have it delegated: Delegate=yes in the worker's unit; for a user's own services "
    "Delegate=cpu cpuset io memory pids in a drop-in of user@.service (systemctl edit user@.service)"
)
_DISABLED = "boot with cgroup_enable={name} and without cgroup_disable={name} on the kernel command line"
_NOT_BUILT = "use a kernel that has it (CONFIG_CGROUPS and the controller's own option)"
_NOT_MOUNTED = "mount it (mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}), or boot with cgroup v2"
_READ_ONLY = "have the cgroup file system mounted writable (a container: a private cgroup namespace, rw)"


class Unenforceable(LimitsUnsupported):
    """A LimitsUnsupported in its parts: which limit, why not, and what helps."""

    def __init__(self, limit: str, reason: str, remedy: str) -> None:
        super().__init__(f"{limit}: {reason}; {remedy}")
        self.limit = limit
        self.reason = reason
        self.remedy = remedy


def absent(
    limit: str, controller: str, *, unified: bool, table: Path = Path("/proc/cgroups")
) -> Unenforceable:
    """Tell why there is no controller here at all; ``unified``: there is a v2 hierarchy to look in."""
    name = LEGACY_NAMES.get(controller, controller)
    enabled = _kernel_controllers(table)
    if enabled and name not in enabled:
        return Unenforceable(limit, f"this kernel has no {controller} controller", _NOT_BUILT)
    if enabled.get(name) is False:
        return Unenforceable(
            limit,
            f"the {controller} controller is switched off in this kernel",
            _DISABLED.format(name=name),
        )
    if unified:
        return Unenforceable(
            limit, f"there is no {controller} controller here: not delegated to this group", _DELEGATE
        )
    return Unenforceable(
        limit, f"there is no {controller} controller here: not mounted", _NOT_MOUNTED.format(name=name)
    )


def unwritable(limit: str, base: Path) -> Unenforceable:
    """Tell why no group can be made below a base."""
    if is_read_only(base):
        return Unenforceable(limit, f"{base} is mounted read-only", _READ_ONLY)
    return Unenforceable(limit, f"{base} cannot be written by uid {os.geteuid()}", REMEDY)


def is_read_only(path: Path) -> bool:
    """Tell whether a path is on a file system that is mounted read-only."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except FileNotFoundError:
        return False


def _kernel_controllers(table: Path) -> dict[str, bool]:
    """Return from /proc/cgroups which controllers this kernel has, and whether each is enabled.

    Empty where it does not tell: v1 support may be left out of a kernel (CONFIG_CPUSETS_V1, ...).
    """
    rows = (line.split() for line in (kernel_files.read(table) or "").splitlines())
    return {row[0]: row[3] != "0" for row in rows if len(row) == 4 and not row[0].startswith("#")}
