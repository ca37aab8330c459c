"""Checks of control groups: where they are, and which limits this host enforces."""

import json
import os
import sys
from collections.abc import Iterator

from ...cgroups.capabilities import Capabilities, Capability, capabilities
from ...cgroups.plugins import default_parent
from ...core.host.unit_names import is_worker_systemd_scope, probe_cgroup
from ...linux.kernel import probes
from ...linux.spawner import systemd_scope
from ..home import Home
from ..options.limit_words import in_options
from ..options.limits import LIMITS
from .findings import (
    Finding,
    Verdict,
    missing,
    ok,
    tried,
    warning,
)

_REQUIRED = {"cpu.quota", "memory.max", "pids"}
"""Without these limits, a job of another user can exhaust the machine."""


def check_cgroups(home: Home) -> Iterator[Finding]:
    """Check control groups where the supervisor of a server places jobs.

    That is a delegated systemd scope, if systemd can create one, for each user and from each cgroup. The
    checks run in such a scope, because only its processes have the rights in it.
    """
    try:
        systemd_scope.probe()
    except systemd_scope.ScopeUnavailable:  # check_service reports it
        yield from check_own_cgroups(home)
        return
    command = [sys.executable, "-P", "-m", "worker.cli.doctor", str(home.path)]
    try:
        found = json.loads(systemd_scope.output_in_scope(home.path, "doctor", command))
    except systemd_scope.ScopeUnavailable as error:
        yield missing(
            "control groups",
            f"a delegated systemd scope, which `worker up` needs, does not work: {error}",
            "see what systemd logged (journalctl)",
        )
        return
    yield from (Finding(**{**each, "verdict": Verdict(each["verdict"])}) for each in found)


def check_own_cgroups(home: Home) -> Iterator[Finding]:
    """Check the hierarchy, each limit, and what is needed to place and kill jobs, for this process."""
    found = capabilities(default_parent(home.path))
    yield _hierarchy(found)
    if not found.usable.available:
        return  # each of the following checks would fail for the same reason
    for name, limit in found.limits.items():
        failed = Verdict.MISSING if name in _REQUIRED else Verdict.WARNING
        yield _finding(f"limit {_option(name)}", limit, "can be enforced", failed)
    if found.unified is not None:
        base = found.unified
        yield tried(
            "clone3 into a cgroup",
            lambda: probes.clone_into_cgroup(base / probe_cgroup(os.getpid())),
            warning,
            "use Linux 5.7 or later, and a seccomp filter that allows clone3(2); without it, a start takes "
            "up to 12 ms longer",
        )
    yield _finding("cgroup.kill", found.cgroup_kill, "kills all processes of a job at once")
    yield _finding("freezer", found.freezer, "pauses jobs")
    yield _finding("pressure (PSI)", found.pressure, "is measured for each job")


def _option(capability: str) -> str:
    """Return the option of the limit that needs this capability, or the common part of several."""
    options = [limit.option for limit in LIMITS if limit.capability == capability]
    return options[0] if len(options) == 1 else f"--{capability}-..."


def _hierarchy(found: Capabilities) -> Finding:
    if not found.usable.available:
        reason = f"{found.usable.reason}: no limit can be enforced, and processes can escape"
        return missing("control groups", reason, found.usable.remedy)
    # The scope of the doctor itself will not exist when the user reads this.
    scope = found.unified if found.unified and is_worker_systemd_scope(found.unified.name) else None
    places = [
        name if path == scope else f"{name} in {path}" for name, path in sorted(found.controllers.items())
    ]
    delegated = ", delegated to this process" if found.delegated else ""
    if scope is not None:
        delegated = ", in a systemd scope, as `worker up` creates one"
    return ok("control groups", f"{found.hierarchy}{delegated}: {', '.join(places) or 'no controllers'}")


def _finding(
    subject: str, capability: Capability, works: str, otherwise: Verdict = Verdict.WARNING
) -> Finding:
    if capability.available:
        return ok(subject, works)
    return Finding(otherwise, subject, in_options(capability.reason), in_options(capability.remedy))
