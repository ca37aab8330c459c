"""Why a limit cannot be enforced on this host, and the remedy."""

import os
from pathlib import Path

from ..core.errors import LimitsUnsupported
from . import kernel_files
from .hierarchy.hierarchy import V1_NAMES

REMEDY = (
    "run the worker as root, or in a group that is delegated to its user "
    "(systemd-run --user --scope -p Delegate=yes, or Delegate=yes in its unit)"
)
_DELEGATE = (
    "delegate it: Delegate=yes in the worker's unit; for a user's own services "
    "Delegate=cpu cpuset io memory pids in a drop-in of user@.service (systemctl edit user@.service)"
)
_DISABLED = "boot with cgroup_enable={name} and without cgroup_disable={name} on the kernel command line"
_NOT_BUILT = "use a kernel that has it (CONFIG_CGROUPS and the controller's own option)"
_NOT_MOUNTED = "mount it (mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}), or boot with cgroup v2"
_READ_ONLY = "mount the cgroup file system writable (in a container: a private cgroup namespace, rw)"


class Unenforceable(LimitsUnsupported):
    """A LimitsUnsupported in its parts: the limit, the reason, and the remedy."""

    def __init__(self, limit: str, reason: str, remedy: str) -> None:
        super().__init__(f"{limit}: {reason}; {remedy}")
        self.limit = limit
        self.reason = reason
        self.remedy = remedy


def absent(
    limit: str, controller: str, *, unified: bool, table: Path = Path("/proc/cgroups")
) -> Unenforceable:
    """Return why a controller does not exist here; ``unified``: it would be in a v2 hierarchy."""
    name = V1_NAMES.get(controller, controller)
    enabled = _kernel_controllers(table)
    if enabled and name not in enabled:
        return Unenforceable(limit, f"this kernel has no {controller} controller", _NOT_BUILT)
    if enabled.get(name) is False:
        return Unenforceable(
            limit,
            f"the {controller} controller is disabled in this kernel",
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
    """Return why no cgroup can be created below a base."""
    if is_read_only(base):
        return Unenforceable(limit, f"{base} is mounted read-only", _READ_ONLY)
    return Unenforceable(limit, f"{base} is not writable for uid {os.geteuid()}", REMEDY)


def is_read_only(path: Path) -> bool:
    """Whether a path is on a file system that is mounted read-only."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except FileNotFoundError:
        return False


def _kernel_controllers(table: Path) -> dict[str, bool]:
    """Return the controllers of this kernel from /proc/cgroups, and whether each is enabled.

    Empty where the file does not list them: v1 may be left out of a kernel (CONFIG_CPUSETS_V1, ...).
    """
    rows = (line.split() for line in (kernel_files.read(table) or "").splitlines())
    return {row[0]: row[3] != "0" for row in rows if len(row) == 4 and not row[0].startswith("#")}
