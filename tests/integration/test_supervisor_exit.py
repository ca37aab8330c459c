"""A supervisor whose systemd scope is stopped."""

import os
import signal


def test_a_supervisor_waits_for_its_jobs_after_sigterm(installation, tmp_path, until):
    """Running jobs are left alone; the supervisor exits after the last one, and another one replaces it."""
    gate = tmp_path / "gate"
    job = installation.start("sh", "-c", f"until [ -e {gate} ]; do sleep 0.05; done; echo out; exit 5")
    supervisor = installation.supervisor_pid()
    os.kill(supervisor, signal.SIGTERM)
    assert "running" == installation.query(job)["state"]
    assert supervisor == installation.supervisor_pid()
    gate.touch()
    until(lambda: installation.supervisor_pid() not in {0, supervisor})
    assert 5 == installation.wait(job)["exit_code"]
    assert b"out\n" == installation.stream(job)
    assert 0 == installation.wait(installation.start("true"))["exit_code"]
