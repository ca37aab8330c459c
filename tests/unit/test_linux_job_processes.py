"""A job whose control groups somebody else has removed, as systemd does with what is in empty scopes."""

from pathlib import Path

from worker.core.ports import Placement
from worker.linux.supervisor.job_processes import oom_kills, processes_of


def test_a_group_that_is_gone_is_empty(tmp_path: Path) -> None:
    """Nobody is left in it, nothing can be watched, and ending what is in it does nothing."""
    group = processes_of(Placement(unified=str(tmp_path / "gone")), 0, b"WORKER_JOB_ID=none")
    assert group.empty()
    assert [] == group.pids()
    assert None is group.open_events()
    group.kill()


def test_a_group_that_is_gone_tells_of_no_oom_kill(tmp_path: Path) -> None:
    """What it has counted went with it."""
    assert 0 == oom_kills(Placement(oom_events=str(tmp_path / "gone/memory.events")))
