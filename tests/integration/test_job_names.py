"""Names of jobs through the real command, the real journal and a server that is killed."""

import pytest

from ..support.installation import Installation


def test_a_name_outlives_the_server(installation: Installation) -> None:
    """The next server finds a job by its name and a part of its id, and refuses the name while it runs."""

    def check(job: str) -> None:
        done = installation.run("start", "--name", "build", "true")
        assert (1, True) == (done.returncode, f"job {job} named build is running" in done.stderr.decode())
        for reference in ("build", "@last", job[:8], job):
            assert (job, "build") == (
                installation.query(reference)["id"],
                installation.query(reference)["name"],
            )

    first = installation.start("--name", "build", "sleep", "1000")
    check(first)
    installation.kill(installation.server_pid())
    installation.worker("up")
    check(first)
    installation.worker("stop", "--grace", "0s", first)
    second = installation.start("--name", "build", "sleep", "1000")
    check(second)
    installation.kill(installation.server_pid())
    installation.worker("up")
    check(second)
    installation.worker("stop", "--grace", "0s", second)
    installation.worker("remove", second)
    assert first == installation.query("build")["id"]


@pytest.mark.parametrize("name", ["-x", "a b", "@last", "x" * 64, "b58476f2-9479-445b-898d-29eeaf905a47"])
def test_a_name_that_is_refused(shared: Installation, name: str) -> None:
    """The error names the field, and nothing is started."""
    done = shared.run("start", f"--name={name}", "true")
    assert (1, True) == (done.returncode, "job name: " in done.stderr.decode())
    assert b"[]" == shared.run("list", "-o", "json").stdout.strip()
