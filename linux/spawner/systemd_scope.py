"""systemd scopes: units for processes that outlive the unit of the process that started them.

A supervisor in the server's own unit would be killed with it (KillMode=control-group), or prevent
systemd from starting it again (219/CGROUP). It therefore runs in a transient scope, delegated so that
it can create cgroups for jobs there: https://systemd.io/CGROUP_DELEGATION.
"""

import logging
import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...core.host.unit_names import innermost_unit, systemd_scope_name

log = logging.getLogger(__name__)

_BOOTED = Path("/run/systemd/system")
"""Exists if systemd manages the machine: sd_booted(3)."""

_TIMEOUT = 30.0
"""Seconds to wait for systemd; it needs about 10 ms, and sd-bus itself times out after 25 s."""

_COMMAND_TIMEOUT = 120.0
"""Seconds for a command in a scope: on a slow, busy machine a Python program needs more than systemd."""


class ScopeUnavailable(Exception):
    """No systemd scope can be created; the message is the reason."""


def is_booted() -> bool:
    """Whether systemd manages this machine."""
    return _BOOTED.is_dir()


def probe() -> None:
    """Create a scope for a command that does nothing; raise ScopeUnavailable if that fails."""
    _output_of([*_systemd_run(), "--", "true"], _TIMEOUT)


def output_in_scope(state_dir: Path, role: str, command: Sequence[str]) -> str:
    """Return what a command prints that runs in a ``scope``; raise ScopeUnavailable if it fails.

    The scope is removed when the command has ended.
    """
    return _output_of([*scope(state_dir, role), *command], _COMMAND_TIMEOUT)


def supervisor_scope(state_dir: Path) -> list[str]:
    """Return ``scope`` for a supervisor; an empty list, with a warning, if systemd cannot create one."""
    if not is_booted():
        return []
    try:
        probe()
    except ScopeUnavailable as reason:
        unit = unit_of(os.getpid()) or "the server's control group"
        log.warning("jobs end when %s is stopped: cannot create a systemd scope for them: %s", unit, reason)
        return []
    return scope(state_dir, "supervisor")


def scope(state_dir: Path, role: str) -> list[str]:
    """Return the words to put before a command so that it runs in a new delegated scope of its own.

    It keeps pid, parent and descriptors; its environment should be ``environment()``.
    """
    unit = systemd_scope_name(state_dir.resolve(), role, secrets.token_hex(4))
    # Delegate=yes implies OOMPolicy=continue, which not every build of systemd 252 accepts.
    return [
        *_systemd_run(),
        f"--unit={unit}",
        f"--description=worker {role} for {state_dir}",
        "--property=Delegate=yes",
        "--",
    ]


def environment() -> dict[str, str]:
    """Return our environment, with the path to the user's systemd, which services and su(1) lack."""
    directory = f"/run/user/{os.geteuid()}"
    if os.geteuid() != 0 and "XDG_RUNTIME_DIR" not in os.environ and os.path.isdir(directory):
        return {**os.environ, "XDG_RUNTIME_DIR": directory}
    return dict(os.environ)


def unit_of(process: int, proc: Path = Path("/proc")) -> str | None:
    """Return the systemd unit that a process is in, None if it is in none or does not exist."""
    try:
        lines = (proc / str(process) / "cgroup").read_text().splitlines()
    except FileNotFoundError:
        return None
    cgroups = [
        line.split(":", 2)[2] for line in lines if line.startswith("0::") or ":name=systemd:" in line
    ]
    units = [unit for unit in map(innermost_unit, cgroups) if unit]
    return units[-1] if units else None


def _output_of(command: Sequence[str], timeout: float) -> str:
    if not is_booted():
        raise ScopeUnavailable("systemd does not manage this machine")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            env=environment(),
            timeout=timeout,
        )
    except FileNotFoundError:
        raise ScopeUnavailable("systemd-run is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise ScopeUnavailable(f"systemd-run: {reason}") from None
    except subprocess.TimeoutExpired:
        raise ScopeUnavailable(f"systemd has not responded for {timeout:g} s") from None
    return done.stdout.decode()


def _systemd_run() -> list[str]:
    manager = ["--user"] if os.geteuid() != 0 else []
    return ["systemd-run", *manager, "--scope", "--quiet", "--collect"]
