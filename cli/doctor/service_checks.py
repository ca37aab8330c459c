"""Checks of the server as a service: whether jobs keep running when the service is stopped."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from ...core.host.unit_names import is_supervisor_systemd_scope
from ...linux.spawner import systemd_scope
from ...linux.state.generations import running_supervisors
from ...linux.state.layout import Layout
from ..home import Home
from .findings import Finding, ok, warning

_SUBJECT = "jobs outlive the service"
_LINGERS = "jobs outlive the login"
_LINGERING = Path("/var/lib/systemd/linger")


def check_service(home: Home) -> Iterator[Finding]:
    """Check the systemd units of the running supervisors, or of a future one."""
    if not systemd_scope.is_booted():
        yield ok(_SUBJECT, "systemd is not running, so no unit can be stopped")
        return
    layout = Layout(home.path)
    supervisors = running_supervisors(layout) if layout.supervisor.is_dir() else []
    yield from map(_unit_of, supervisors) if supervisors else [_unit_of_next()]
    if os.geteuid() != 0:
        yield _lingering()


def _unit_of(supervisor: int) -> Finding:
    unit = systemd_scope.unit_of(supervisor)
    if unit is None or is_supervisor_systemd_scope(unit):
        return ok(_SUBJECT, f"the supervisor runs in {unit or 'no unit'}")
    return warning(
        _SUBJECT,
        f"the supervisor runs in {unit}, and its jobs end when that is stopped",
        "run `worker down --jobs`, make sure that systemd-run works, and start the server again",
    )


def _unit_of_next() -> Finding:
    try:
        systemd_scope.probe()
    except systemd_scope.ScopeUnavailable as reason:
        remedy = "install systemd-run, and permit its use"
        if os.geteuid() != 0:
            remedy = f"loginctl enable-linger {_user()}, so that systemd runs for this user"
        return warning(
            _SUBJECT, f"jobs end with it, because no systemd scope can be created: {reason}", remedy
        )
    return ok(_SUBJECT, "the supervisor will run in its own systemd scope")


def _lingering() -> Finding:
    """Check lingering: otherwise a user's systemd, and its units, end with the user's last session."""
    if (_LINGERING / _user()).exists():
        return ok(_LINGERS, "jobs keep running when the user logs out")
    return warning(_LINGERS, "jobs may end when the user logs out", f"loginctl enable-linger {_user()}")


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
