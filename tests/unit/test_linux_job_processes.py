"""A job whose cgroups were removed by another process, as systemd does with those in empty scopes."""

from pathlib import Path

from worker.core.ports import Placement
from worker.linux.supervisor.job_processes import oom_kills, processes_of


def test_a_removed_cgroup_is_empty(tmp_path: Path) -> None:
    """It has no processes and no events, and killing does nothing."""
    processes = processes_of(Placement(unified=str(tmp_path / "gone")), 0, "none")
    assert processes.empty()
    assert [] == processes.pids()
    assert None is processes.open_events()
    processes.kill()


def test_a_removed_cgroup_has_no_oom_kills(tmp_path: Path) -> None:
    """Its count was removed with it."""
    assert 0 == oom_kills(Placement(oom_events=str(tmp_path / "gone/memory.events")))
