"""Starts commands with a zygote, without a supervisor."""

import os
import select
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from worker.core.model.job import JobSpec
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.state.history import (
    StartRecord,
    create_history,
    provisional_path,
    revoke_start,
)
from worker.linux.zygote.client import Descriptors, Zygote
from worker.linux.zygote.plan import HistoryPaths

PATIENCE = 60.0
"""Seconds after which an expected event counts as missing."""

PATH = "/usr/local/bin:/usr/bin:/bin"


class Outcome(NamedTuple):
    """What became of a child: its exit code, what it reported, and what it wrote."""

    code: int
    failure: str
    output: bytes


class Starter:
    """Starts commands with a zygote, each with a history of its own."""

    def __init__(self, directory: Path, program: str) -> None:
        self.directory = directory
        self.zygote = Zygote(directory / "zygote.lock", program=program)
        self.history = str(directory / "history")

    def start(self, plan: SpawnPlan, *, revoked: bool = False) -> Outcome:
        """Execute a plan, and wait for its end."""
        Path(self.history).unlink(missing_ok=True)
        revoke_start(self.history)
        record = StartRecord(0, 0, "boot", 1.5, None, plan)
        history = create_history(self.history, 0, record, "g")
        provisional = provisional_path(self.history, 0)
        if revoked:
            os.unlink(provisional)
        errors, theirs = os.pipe2(os.O_CLOEXEC)
        output, end = os.pipe2(os.O_CLOEXEC)
        paths = HistoryPaths(provisional, self.history)
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        pid = self.zygote.clone(plan, paths, Descriptors(history, theirs, stdin, end, end), ())
        for fd in (theirs, stdin, end, history):
            os.close(fd)
        with os.fdopen(errors, "rb") as failure, os.fdopen(output, "rb") as written:
            outcome = failure.read().decode(), written.read()
        return Outcome(self.wait(pid), *outcome)

    def wait(self, pid: int) -> int:
        """Wait for the end of a child, and return its exit code."""
        return ending_of(pid)


def has_ended(pidfd: int, patience: float) -> bool:
    """Wait for the end of a process."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(1000 * patience))


def ending_of(pid: int) -> int:
    """Wait for the end of a child, and return its exit code."""
    pidfd = os.pidfd_open(pid)
    try:
        assert has_ended(pidfd, PATIENCE), "the child does not end"
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def shell(script: str, *args: str, env: Mapping[str, str] | None = None) -> SpawnPlan:
    """Return a plan for a shell script."""
    return SpawnPlan(JobSpec("sh", ["-c", script, *args], env={"PATH": PATH, **(env or {})}))
