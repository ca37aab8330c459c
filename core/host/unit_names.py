"""Names of systemd units, and of the units and cgroups that a worker creates.

The only module that knows them: https://www.freedesktop.org/software/systemd/man/systemd.unit.html
"""

import re
from hashlib import sha256
from pathlib import PurePath

SERVER_CGROUP = "worker-server"
"""The cgroup that the processes of a delegated cgroup are moved into, so that it can enable controllers."""

_PREFIX = "worker-"
_SCOPE, _SERVICE, _SLICE = ".scope", ".service", ".slice"
_USER_MANAGER = "user@"
_SUPERVISOR_SCOPE = re.compile(rf"{_PREFIX}[0-9a-f]{{8}}-supervisor-[0-9a-f]{{8}}{re.escape(_SCOPE)}")


def worker_name(state_dir: PurePath) -> str:
    """Return a name that is unique for this state directory; its path must have no symbolic links."""
    return _PREFIX + sha256(bytes(state_dir)).hexdigest()[:8]


def systemd_scope_name(state_dir: PurePath, role: str, unique: str) -> str:
    """Return the name of a systemd scope for one process of a worker, without the suffix.

    ``role`` is supervisor, server or doctor; ``unique`` is 8 hexadecimal digits.
    """
    return f"{worker_name(state_dir)}-{role}-{unique}"


def is_supervisor_systemd_scope(unit: str) -> bool:
    """Whether a unit is a systemd scope that a supervisor was started in."""
    return _SUPERVISOR_SCOPE.fullmatch(unit) is not None


def is_worker_systemd_scope(unit: str) -> bool:
    """Whether a unit is a systemd scope of any worker."""
    return unit.startswith(_PREFIX) and unit.endswith(_SCOPE)


def is_unit(cgroup: str) -> bool:
    """Whether a cgroup with this name is that of a systemd unit."""
    return cgroup.endswith((_SCOPE, _SERVICE, _SLICE))


def contains_units(unit: str) -> bool:
    """Whether the cgroups of other units are below that of this unit: a slice, or a user's systemd."""
    return unit.endswith(_SLICE) or (unit.startswith(_USER_MANAGER) and unit.endswith(_SERVICE))


def innermost_unit(cgroup: str) -> str | None:
    """Return the innermost service or scope in the path of a cgroup, None if there is none."""
    names = [name for name in cgroup.split("/") if name.endswith((_SCOPE, _SERVICE))]
    return names[-1] if names else None


def probe_cgroup(pid: int) -> str:
    """Return the name of a cgroup that a process creates to examine this host, and removes again."""
    return f"{_PREFIX}probe-{pid}"
