"""Scopes of systemd: places for processes that outlive the unit of whoever started them.

A supervisor in the server's own unit would die with it (KillMode=control-group), or keep systemd from
starting it again (219/CGROUP), so it lives in a transient scope, delegated so that it can have
control groups for jobs there: https://systemd.io/CGROUP_DELEGATION.
"""

import logging
import os
import re
import secrets
import subprocess
from pathlib import Path

from ...core.model.naming import worker_name

log = logging.getLogger(__name__)

_SCOPE = re.compile(r"worker-[0-9a-f]{8}-supervisor-[0-9a-f]{8}\.scope")
_BOOTED = Path("/run/systemd/system")
"""There where systemd manages the machine: sd_booted(3)."""

_PATIENCE = 30.0
"""Seconds that systemd may take; it needs some 10 ms, and sd-bus itself gives up after 25 s."""


class ScopeUnavailable(Exception):
    """No scope can be made, and why."""


def is_booted() -> bool:
    """Whether systemd manages this machine."""
    return _BOOTED.is_dir()


def probe() -> None:
    """Make a scope for a command that does nothing; ScopeUnavailable if that does not work."""
    if not is_booted():
        raise ScopeUnavailable("systemd does not manage this machine")
    try:
        subprocess.run(
            [*_systemd_run(), "--", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            env=environment(),
            timeout=_PATIENCE,
        )
    except FileNotFoundError:
        raise ScopeUnavailable("there is no systemd-run") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise ScopeUnavailable(f"systemd-run: {said}") from None
    except subprocess.TimeoutExpired:
        raise ScopeUnavailable(f"systemd has not answered for {_PATIENCE:g} s") from None


def supervisor_scope(state_dir: Path) -> list[str]:
    """Return ``scope`` for a supervisor; nothing, with a word in the log, where systemd makes none."""
    if not is_booted():
        return []
    try:
        probe()
    except ScopeUnavailable as reason:
        unit = unit_of(os.getpid()) or "the server's control group"
        log.warning("jobs end when %s is stopped, there can be no scope for them: %s", unit, reason)
        return []
    return scope(state_dir, "supervisor")


def scope(state_dir: Path, role: str) -> list[str]:
    """Return what to put before a command to have it executed in a new delegated scope of its own.

    It keeps pid, parent and descriptors; its environment should be ``environment()``.
    """
    unit = f"{worker_name(state_dir.resolve())}-{role}-{secrets.token_hex(4)}"
    # OOMPolicy=continue goes without saying for what is delegated, and not all of systemd 252 takes it.
    return [
        *_systemd_run(),
        f"--unit={unit}",
        f"--description=worker {role} for {state_dir}",
        "--property=Delegate=yes",
        "--",
    ]


def environment() -> dict[str, str]:
    """Return our environment, with the way to the user's systemd, which services and su(1) lack."""
    directory = f"/run/user/{os.geteuid()}"
    if os.geteuid() != 0 and "XDG_RUNTIME_DIR" not in os.environ and os.path.isdir(directory):
        return {**os.environ, "XDG_RUNTIME_DIR": directory}
    return dict(os.environ)


def is_supervisor_scope(unit: str) -> bool:
    """Whether a unit is one of those that supervisors are started in."""
    return _SCOPE.fullmatch(unit) is not None


def unit_of(process: int, proc: Path = Path("/proc")) -> str | None:
    """Return the unit of systemd that a process is in, None if there is none such."""
    try:
        lines = (proc / str(process) / "cgroup").read_text().splitlines()
    except FileNotFoundError:
        return None
    groups = [line.split(":", 2)[2] for line in lines if line.startswith("0::") or ":name=systemd:" in line]
    names = [name for group in groups for name in group.split("/") if name.endswith((".scope", ".service"))]
    return names[-1] if names else None


def _systemd_run() -> list[str]:
    manager = ["--user"] if os.geteuid() != 0 else []
    return ["systemd-run", *manager, "--scope", "--quiet", "--collect"]
