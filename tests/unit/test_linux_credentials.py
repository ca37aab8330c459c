"""The directories with the secrets of jobs: what is trusted, and what is deleted."""

import os
from pathlib import Path

import pytest

from worker.core.model.job import new_job_id
from worker.linux.spawner.credentials import Credentials
from worker.linux.spawner.users import account
from worker.linux.state.credentials import credentials_link, remove_credentials

SECRETS = {"password": b"correct horse"}


def test_they_are_made_and_deleted(tmp_path: Path) -> None:
    """What is unknown is swept, and the directory above is deleted with the last one."""
    credentials = Credentials(tmp_path)
    first, second = new_job_id(), new_job_id()
    directory = Path(credentials.make(first, SECRETS, account(None)))
    credentials.make(second, SECRETS, account(None))
    assert b"correct horse" == (directory / "password").read_bytes()
    credentials.sweep([first])
    assert [directory] == list(directory.parent.iterdir())
    credentials.close()
    assert directory.exists()
    assert remove_credentials(tmp_path, first)
    assert remove_credentials(tmp_path, first)
    credentials.close()
    assert not directory.parent.exists()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    """After a restart of the machine another user may have taken the name: nothing is changed there."""
    elsewhere, victim, job = tmp_path / "taken", tmp_path / "victim", new_job_id()
    victim.mkdir(mode=0o755)
    (victim / "file").touch()
    elsewhere.mkdir()
    (elsewhere / str(job)).symlink_to(victim)
    os.chown(elsewhere, 65534, 65534)
    state = tmp_path / "state"
    state.mkdir()
    os.symlink(elsewhere, credentials_link(state))
    credentials = Credentials(state)
    remove_credentials(state, job)
    credentials.remove(job)
    credentials.sweep([])
    credentials.close()
    assert (victim / "file").exists()
    assert 0o755 == victim.stat().st_mode & 0o777
    directory = Path(credentials.make(job, SECRETS, account(None)))
    assert elsewhere != directory.parent
    credentials.remove(job)
    credentials.close()
    assert not directory.parent.exists()
