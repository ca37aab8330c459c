"""What `worker doctor` finds about control groups: where they are, and which limits hold here."""

from collections.abc import Iterator

from ...cgroups.capabilities import Capabilities, Capability, capabilities
from ...cgroups.plugins import default_parent
from ...linux.kernel import probes
from ..home import Home
from .findings import (
    Finding,
    Verdict,
    missing,
    ok,
    tried,
    warning,
)

_REQUIRED = {"cpu.quota", "memory.max", "pids"}
"""Limits without which other people's commands are not to be trusted."""

_OPTIONS = {
    "cpu.quota": "--cpu",
    "cpu.weight": "--cpu-weight",
    "memory.max": "--memory",
    "memory.high": "--memory-high",
    "memory.swap_max": "--swap",
    "io": "--io-...",
    "pids": "--pids",
    "cpuset": "--cpus",
}


def check_cgroups(home: Home) -> Iterator[Finding]:
    """Look at the hierarchy, at each limit, and at what placing and ending jobs needs."""
    found = capabilities(default_parent(home.path))
    yield _hierarchy(found)
    if not found.usable.available:
        return  # each of the following would say the same
    for name, limit in found.limits.items():
        failed = Verdict.MISSING if name in _REQUIRED else Verdict.WARNING
        yield _judged(f"limit {_OPTIONS.get(name, name)}", limit, "can be enforced", failed)
    if found.unified is not None:
        base = found.unified
        yield tried(
            "clone3 into a cgroup",
            lambda: probes.birth_in_group(base),
            warning,
            "without it starts take up to 12 ms longer: a kernel from 5.7 on, and a seccomp filter "
            "that allows clone3(2)",
        )
    yield _judged("cgroup.kill", found.cgroup_kill, "ends all processes of a job at once")
    yield _judged("pressure (PSI)", found.pressure, "is told for each job")


def _hierarchy(found: Capabilities) -> Finding:
    if not found.usable.available:
        reason = f"{found.usable.reason}: no limit can be enforced, and processes can escape"
        return missing("control groups", reason, found.usable.remedy)
    places = [f"{name} in {path}" for name, path in sorted(found.controllers.items())]
    delegated = ", delegated to this process" if found.delegated else ""
    return ok("control groups", f"{found.hierarchy}{delegated}: {', '.join(places) or 'no controllers'}")


def _judged(
    subject: str, capability: Capability, works: str, otherwise: Verdict = Verdict.WARNING
) -> Finding:
    if capability.available:
        return ok(subject, works)
    return Finding(otherwise, subject, capability.reason, capability.remedy)
