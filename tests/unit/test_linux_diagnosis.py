"""What `worker debug` reads from files that it may not read."""

import os
from pathlib import Path

import pytest

from worker.core.model.job import new_job_id
from worker.linux.diagnosis.files import read_files
from worker.linux.state.layout import Layout

NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_home_of_another_user(tmp_path: Path) -> None:
    """It is not taken for a home without the job: the reason is an error."""
    layout, job = Layout(tmp_path), str(new_job_id())
    layout.make()
    os.mkdir(layout.job(job))
    tmp_path.chmod(0o700)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(PermissionError):
            read_files(layout, job)
    finally:
        os.seteuid(0)


def test_a_home_that_does_not_exist(tmp_path: Path) -> None:
    """Nothing is on disk of the job, and nothing is created."""
    assert None is read_files(Layout(tmp_path / "none"), str(new_job_id()))
    (tmp_path / "file").touch()
    assert None is read_files(Layout(tmp_path / "file"), str(new_job_id()))
    assert [tmp_path / "file"] == list(tmp_path.iterdir())
