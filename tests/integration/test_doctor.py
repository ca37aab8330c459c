"""The doctor on this machine."""

import json
import os

import pytest

from worker.cli.doctor.file_system import file_system


def examined(installation, code=0):
    """Return all findings by subject."""
    result = json.loads(installation.worker("doctor", "-o", "json", code=code))
    assert result["ok"] == (code == 0)
    return {each["subject"]: each for each in result["findings"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: control groups may not be available otherwise")
def test_a_healthy_worker(shared):
    """Nothing required is missing, the server answers, and the doctor leaves no files."""
    before = sorted(shared.home.iterdir())
    findings = examined(shared)
    for subject in (
        "control groups",
        "limit --cpu",
        "limit --memory",
        "limit --pids",
        "pidfd",
        "recording",
    ):
        assert "ok" == findings[subject]["verdict"], findings[subject]
    address = (shared.home / "address").read_text().strip()
    assert f"answers at {address}" == findings["server"]["text"]
    assert findings["state"]["text"].startswith(f"{shared.home} on {file_system(shared.home).kind}, ")
    assert before == sorted(shared.home.iterdir())


def test_jobs_are_not_disturbed(shared):
    """The doctor does not affect running jobs."""
    job = shared.start("sleep", "1000")
    shared.worker("doctor", code=None)
    assert "running" == shared.query(job)["state"]
    shared.worker("stop", "--grace", "0", job)


def test_each_problem_has_a_remedy(shared):
    """A finding has a remedy unless it is ok, and each is printed as one line."""
    findings = examined(shared, code=None) if os.geteuid() else examined(shared)
    assert [] == [each for each in findings.values() if (each["verdict"] == "ok") == bool(each["remedy"])]
    lines = shared.worker("doctor", code=None).splitlines()
    assert [each["verdict"] for each in findings.values()] == [line.split()[0] for line in lines]


def test_a_server_that_is_down(installation):
    """It is a warning, whose remedy is `worker up`."""
    installation.worker("down")
    finding = examined(installation)["server"]
    assert "warning" == finding["verdict"]
    assert finding["text"].endswith(": connection refused")
    assert "`worker up` starts a server" == finding["remedy"]


def test_a_server_without_certificate(installation):
    """A missing certificate makes the doctor fail, and the remedy in the finding works."""
    pki = installation.home / "pki"
    (pki / "server.crt").unlink()
    finding = examined(installation, code=1)["certificate server"]
    assert ("missing", f"{pki}/server.crt: No such file or directory") == (
        finding["verdict"],
        finding["text"],
    )
    assert finding["remedy"].startswith(f"move {pki}/server.key away; `worker certs issue server --server`")
    (pki / "server.key").unlink()
    installation.worker(
        "certs", "issue", "server", "--server", "--key-type", "p256", "--host", "example.org"
    )
    assert "ok" == examined(installation)["certificate server"]["verdict"]
    installation.worker("down")
    installation.worker("up")
    assert "ok" == examined(installation)["server"]["verdict"]
