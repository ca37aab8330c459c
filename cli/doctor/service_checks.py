"""What `worker doctor` finds about the server as a service: what becomes of jobs when it is stopped."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from ...linux.spawner import systemd_scope
from ...linux.state.generations import running_supervisors
from ...linux.state.layout import Layout
from ..home import Home
from .findings import Finding, ok, warning

_SUBJECT = "jobs outlive the service"
_LINGERS = "jobs outlive the login"
_LINGERING = Path("/var/lib/systemd/linger")


def check_service(home: Home) -> Iterator[Finding]:
    """Look at where supervisors live, or could."""
    if not systemd_scope.is_booted():
        yield ok(_SUBJECT, "they are in no unit that could be stopped, without systemd")
        return
    layout = Layout(home.path)
    supervisors = running_supervisors(layout) if layout.supervisor.is_dir() else []
    yield from map(_where_it_lives, supervisors) if supervisors else [_where_it_would_live()]
    if os.geteuid() != 0:
        yield _lingering()


def _where_it_lives(supervisor: int) -> Finding:
    unit = systemd_scope.unit_of(supervisor)
    if unit is None or systemd_scope.is_supervisor_scope(unit):
        return ok(_SUBJECT, f"they live in {unit or 'no unit'}")
    return warning(
        _SUBJECT,
        f"they live in {unit}, and end when that is stopped",
        "`worker down --jobs`, see that systemd-run works, and start the server again",
    )


def _where_it_would_live() -> Finding:
    try:
        systemd_scope.probe()
    except systemd_scope.ScopeUnavailable as reason:
        remedy = "have systemd-run installed and allowed"
        if os.geteuid() != 0:
            remedy = f"loginctl enable-linger {_user()}, so that there is a systemd for this user"
        return warning(_SUBJECT, f"they end with it, there can be no scope for them: {reason}", remedy)
    return ok(_SUBJECT, "they get a scope of their own")


def _lingering() -> Finding:
    """A user's systemd ends with the last session, and all that it has started with it."""
    if (_LINGERING / _user()).exists():
        return ok(_LINGERS, "they run on when you have logged out")
    return warning(_LINGERS, "they may end when you have logged out", f"loginctl enable-linger {_user()}")


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
