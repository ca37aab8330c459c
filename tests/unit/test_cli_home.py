"""WORKER_HOME: where it is, and who has access."""

import os
from pathlib import Path

import pytest

from worker.cli.home import Home, worker_home
from worker.cli.terminal.console import Failure


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKER_HOME comes first; the default is /var/lib/worker for root, else a directory of the user."""
    monkeypatch.setenv("WORKER_HOME", str(tmp_path))
    assert tmp_path == worker_home().path
    monkeypatch.setenv("WORKER_HOME", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Path("/var/lib/worker") == worker_home().path
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert Path("/state/worker") == worker_home().path
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert Path("/home/me/.local/state/worker") == worker_home().path


def test_only_the_owner_has_access(tmp_path: Path) -> None:
    """A new home has mode 0700, whatever the umask."""
    home = Home(tmp_path / "a" / "worker")
    home.make()
    home.make()
    assert 0o700 == home.path.stat().st_mode & 0o777


def test_a_home_that_others_can_write_to_is_rejected(tmp_path: Path) -> None:
    """Keys and sockets are not stored where others could replace them; the error has the remedy."""
    tmp_path.chmod(0o777)
    with pytest.raises(Failure, match=f"others can write to {tmp_path}; run: chmod 700 {tmp_path}"):
        Home(tmp_path).make()


def test_a_directory_of_something_else_is_not_changed(tmp_path: Path) -> None:
    """Access to a directory that no worker has used is not taken from others."""
    (tmp_path / "passwd").touch(mode=0o644)
    tmp_path.chmod(0o755)
    with pytest.raises(Failure, match=f"others can read {tmp_path}, which has files that are not those"):
        Home(tmp_path).make()
    assert 0o755 == tmp_path.stat().st_mode & 0o777


def test_access_is_taken_from_others(tmp_path: Path) -> None:
    """A home that others can read is corrected, with all that a server has put there, and nothing else."""
    home = Home(tmp_path)
    job = home.path / "jobs" / "one"
    job.mkdir(parents=True)
    for file in (home.journal, home.log, job / "history", home.path / "script"):
        file.touch()
        file.chmod(0o755)
    os.mkfifo(job / "output.fifo")
    (job / "output.fifo").chmod(0o622)
    for directory in (job, job.parent, home.path):
        directory.chmod(0o755)
    corrected = home.make()
    assert {home.path, home.journal, home.log, job.parent, job, job / "history"} == set(corrected)
    assert {0o700} == {path.stat().st_mode & 0o777 for path in corrected}
    assert (0o622, 0o755) == (
        (job / "output.fifo").stat().st_mode & 0o777,
        (home.path / "script").stat().st_mode & 0o777,
    )
    assert [] == home.make()
