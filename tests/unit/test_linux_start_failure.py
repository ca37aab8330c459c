"""The error for a start that failed: its kind and its text name what is missing."""

import errno

import pytest

from worker.core.errors import LimitsRejected, QuotaExceeded, SpawnerUnavailable, SpawnFailed
from worker.core.model.job import JobSpec
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.spawner.start_failure import start_failure


@pytest.mark.parametrize(
    ("stage", "number", "kind", "text"),
    [
        ("clone", errno.ENOSPC, QuotaExceeded, "no space for the history"),
        ("record", errno.ENOSPC, QuotaExceeded, "no space for the history"),
        ("terminal", errno.ENOSPC, QuotaExceeded, "no pseudo-terminal is free: No space left on device"),
        ("terminal", errno.ENODEV, SpawnFailed, "cannot open a pseudo-terminal at /dev/ptmx"),
        ("terminal", errno.EMFILE, QuotaExceeded, "no descriptor is free"),
        ("clone", errno.EMFILE, QuotaExceeded, "no descriptor is free"),
        ("clone", errno.ECONNRESET, SpawnerUnavailable, "the zygote keeps dying"),
        ("killed", 9, SpawnerUnavailable, "signal 9 killed the process before it executed true"),
        ("out of memory", 9, LimitsRejected, "limits.memory: the limit is too low"),
        ("ulimit 7", errno.EPERM, SpawnFailed, "Operation not permitted"),  # our own default of nofile
    ],
)
def test_a_stage(stage: str, number: int, kind: type[Exception], text: str) -> None:
    """Each stage has an error that says what helps, and whether a repetition can."""
    error = start_failure(SpawnPlan(JobSpec("true")), stage, number)
    assert kind is type(error)
    assert text in str(error)
