"""The error for a job that could not be started: what failed, why, and what helps."""

import errno
import os

from ...core.errors import (
    InvalidJobSpec,
    LimitsRejected,
    QuotaExceeded,
    SpawnerUnavailable,
    SpawnFailed,
    WorkerError,
)
from ..ipc.encoding import SpawnPlan
from ..kernel import rlimits
from ..state.reserve import NO_SPACE
from .exec_failure import exec_failure, link_on_the_way, search_denied

_SCARCE = {errno.EAGAIN, errno.ENOMEM}
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}


def start_failure(plan: SpawnPlan, stage: str, number: int) -> WorkerError:  # noqa: C901, PLR0911 - by stage
    """Return the error for a start that failed at this stage with this errno. Reads files; may block."""
    if number not in _SCARCE and (field := _invalid_field(plan, stage, number)):
        return InvalidJobSpec(*field)
    reason = os.strerror(number)
    match stage:
        case "exec":
            return SpawnFailed(number, exec_failure(plan, number))
        case "descriptors":
            return QuotaExceeded(
                "the supervisor's open-file limit is too low for another job; "
                "raise it (LimitNOFILE= or ulimit -n) where the server is started"
            )
        case "clone" if number == errno.ECONNRESET:
            return SpawnerUnavailable("the zygote keeps dying; the job was not started")
        case "killed":  # the number is that of a signal
            return SpawnerUnavailable(
                f"signal {number} killed the process before it executed {plan.spec.command}; "
                "the job was not started"
            )
        case "out of memory":
            return LimitsRejected(f"limits.memory: the limit is too low to execute {plan.spec.command}")
        case "terminal":
            return _terminal_failure(number)
        case "clone" | "record" if number in NO_SPACE:
            return QuotaExceeded(f"there is no space for the history of a job: {reason}")
        case "clone" if number in _NO_DESCRIPTOR:
            return QuotaExceeded(f"no descriptor is free for another job: {reason}")
        case "cgroup" if number not in _SCARCE:
            return LimitsRejected(f"the job cannot join its control group: {reason}")
        case _:
            return SpawnFailed(number, f"{stage}: {reason}")


def _terminal_failure(number: int) -> WorkerError:
    reason = os.strerror(number)
    if number in NO_SPACE:
        return QuotaExceeded(
            f"no pseudo-terminal is free: {reason}; see sysctl kernel.pty.max, and the option max of the "
            "mount at /dev/pts"
        )
    if number in _NO_DESCRIPTOR:
        return QuotaExceeded(f"no descriptor is free for a pseudo-terminal: {reason}")
    return SpawnFailed(number, f"cannot open a pseudo-terminal at /dev/ptmx: {reason}")


def _invalid_field(plan: SpawnPlan, stage: str, number: int) -> tuple[str, str] | None:
    """Return the field of the job spec that the kernel rejected, and the reason."""
    reason = os.strerror(number)
    if stage == "working directory":
        why = ""
        if number == errno.EACCES:
            why = search_denied(plan, plan.working_directory)
        elif number == errno.ENOTDIR:
            why = link_on_the_way(plan)
        return stage, ": ".join(filter(None, (plan.working_directory, reason, why)))
    if stage == "user":
        return stage, f"cannot become {plan.spec.user!r} (uid {plan.uid}, gid {plan.gid}): {reason}"
    kind, _, rlimit = stage.partition(" ")
    if kind != "ulimit":
        return None
    ulimit = next((each for each in plan.spec.ulimits if rlimits.NUMBERS[each.name] == int(rlimit)), None)
    if ulimit is None:  # our own default of nofile
        return None
    why = rlimits.bound(ulimit.name) if number == errno.EPERM else ""
    return ulimit.field, ": ".join(filter(None, (str(ulimit), reason, why)))
