"""Every system call of the zygote and its children fails, or is the last: no command runs unrecorded."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from worker.core.model.execution import Execution
from worker.core.model.job import JobSpec
from worker.core.ports import Placement
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.state.history import read_history
from worker.linux.zygote.client import PROGRAM, Zygote

from ..support.zygotes import Outcome, Starter, shell

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

SOURCE = Path(PROGRAM).parent
IN_CHILD = set(re.findall(r"\bsys\((\w+)", (SOURCE / "child.c").read_text()))
IN_ZYGOTE = set(re.findall(r"\bsys\((\w+)", (SOURCE / "zygote.c").read_text()))
NEVER_FAIL = {"exit_group", "getpid", "close", "umask", "kill"}
"""Calls whose result nothing depends on, or that cannot fail."""
MOST_CALLS = 8
"""How often a child or a zygote makes the same system call at most, until the exec."""

PLAN = SpawnPlan(JobSpec(PROGRAM, env={"A": "b"}, execution=Execution(PROGRAM, directory="/usr")))
"""The zygote without arguments exits with 2 at once: the command makes no call that could fail."""
RAN = Outcome(2, "", b"")


@contextmanager
def traced(starter: Starter, injection: str) -> Iterator[Starter]:
    """Have strace inject a fault into the zygote and its children."""
    program = starter.directory / "traced"
    # -D: strace is a grandchild, and the zygote remains our own child.
    program.write_text(
        f'#!/bin/sh\nexec strace -D -f -qq -o "{starter.directory}/log" -e {injection} {PROGRAM} "$@"\n'
    )
    program.chmod(0o755)
    usual = starter.zygote
    starter.zygote = Zygote(starter.directory / "traced.lock", program=str(program))
    try:
        yield starter
    finally:
        starter.zygote.close()
        starter.zygote = usual


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """Start commands with a zygote."""
    made = Starter(tmp_path, PROGRAM)
    yield made
    made.zygote.close()


def check(starter: Starter) -> str:
    """Start a command; if it ran, then once and recorded; if not, that is known. Return which."""
    plan = PLAN
    if os.geteuid() == 0:
        plan = replace(plan, uid=12345, gid=12345, groups=(1, 2))
    try:
        outcome = starter.start(plan)
    except OSError:
        history = read_history(starter.history)
        # A zygote that dies after the clone: the child has recorded itself, or it was revoked.
        return "unknown" if history else "refused"
    history = read_history(starter.history)
    if outcome == RAN:
        assert history is not None
        assert not history.never_executed
        return "ran"
    assert outcome.failure or outcome.code == -signal.SIGKILL
    if history is not None and outcome.failure:
        assert history.never_executed
    return "failed"


@pytest.mark.parametrize("call", sorted((IN_CHILD | IN_ZYGOTE) - NEVER_FAIL))
@pytest.mark.parametrize("fault", ["error=ENOMEM", "signal=KILL"])
def test_a_system_call(starter: Starter, call: str, fault: str) -> None:
    """It fails or kills at each occurrence: the command ran once and is recorded, or did not run."""
    seen = set()
    for occurrence in range(1, MOST_CALLS + 1):
        with traced(starter, f"inject={call}:{fault}:when={occurrence}") as faulty:
            seen.add(check(faulty))
    assert seen <= {"ran", "failed", "refused", "unknown"}
    assert "ran" == check(starter)


@pytest.mark.parametrize("refusal", ["ENOSYS", "EPERM", "EINVAL", "E2BIG"])
def test_clone3_is_refused(starter: Starter, refusal: str) -> None:
    """As by the seccomp filter of a container: the child joins its cgroup of v2 by itself."""
    unified = Path("/sys/fs/cgroup/unified")
    top = unified if unified.is_dir() else Path("/sys/fs/cgroup")
    cgroup = top / f"worker-test-{os.getpid()}"
    try:
        cgroup.mkdir()
    except OSError:
        pytest.skip("no cgroup of v2 can be made here")
    try:
        plan = replace(shell("grep ^0: /proc/self/cgroup"), placement=Placement(str(cgroup)))
        with traced(starter, f"inject=clone3:error={refusal}") as faulty:
            assert f"0::/{cgroup.relative_to(top)}\n".encode() == faulty.start(plan).output
    finally:
        cgroup.rmdir()
