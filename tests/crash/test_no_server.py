"""The next server knows what happened to jobs while no server ran."""


def test_jobs_end_while_no_server_runs(installation, tmp_path, until):
    """Jobs that end, time out or are killed without a server: the next server knows their endings."""
    gate = tmp_path / "gate"
    wait_for_gate = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    ended = installation.start("sh", "-c", f"{wait_for_gate}; echo done; exit 5")
    timed_out = installation.start(
        "--timeout", "4s", "--grace", "500ms", "sh", "-c", "trap '' TERM; sleep 100"
    )
    running = installation.start("sleep", "1000")
    installation.kill(installation.server_pid())
    gate.touch()
    for job in (ended, timed_out):
        until(lambda job=job: recorded_or_forgotten(installation.home / "jobs" / job))
    installation.worker("up")
    assert 5 == installation.query(ended)["exit_code"]
    assert b"done\n" == installation.stream(ended)
    facts = installation.query(timed_out)
    assert ("timed out", 137) == (facts["cause"], facts["exit_code"])
    assert "running" == installation.query(running)["state"]
    installation.worker("stop", running)


def recorded_or_forgotten(directory):
    """Whether the supervisor has recorded the end of a job; it is forgotten once a server knows it."""
    history = directory / "history"
    return not history.exists() or '"end"' in history.read_text()


def test_down_leaves_jobs_running(installation):
    """`worker down` prints how many jobs keep running, and the next server knows them."""
    job = installation.start("sh", "-c", "sleep 2; echo survived; exit 4")
    assert "1 job" in installation.worker("down")
    installation.worker("up")
    assert b"survived\n" == installation.stream(job)
    assert 4 == installation.wait(job)["exit_code"]
