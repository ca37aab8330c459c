"""Scopes without systemd: what is asked of it, and what is said when it refuses."""

import os
from pathlib import Path

import pytest

from worker.core.host.unit_names import is_supervisor_scope, worker_name
from worker.linux.spawner import systemd_scope


@pytest.fixture
def systemd_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pose as a machine with systemd; the test writes the command."""
    monkeypatch.setattr(systemd_scope, "_BOOTED", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "systemd-run"


def make_command(path: Path, script: str) -> None:
    """Write a shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_supervisor_gets_a_delegated_scope_of_its_own(systemd_run: Path, tmp_path: Path) -> None:
    """No two are named alike; the name tells whose state it is, and doctor knows it again."""
    make_command(systemd_run, "exit 0")
    one, other = (systemd_scope.supervisor_scope(tmp_path) for _ in range(2))
    assert "--property=Delegate=yes" in one
    assert ("systemd-run", "--") == (one[0], one[-1])
    assert (os.geteuid() != 0) == ("--user" in one)
    names = [word.removeprefix("--unit=") for word in (*one, *other) if word.startswith("--unit=")]
    assert 2 == len(set(names))
    for name in names:
        assert name.startswith(worker_name(tmp_path))
        assert is_supervisor_scope(f"{name}.scope")


def test_without_a_scope_the_log_says_what_that_means(
    systemd_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, with what systemd-run said; the supervisor is started all the same."""
    make_command(systemd_run, "echo Failed to connect to bus >&2; exit 1")
    assert [] == systemd_scope.supervisor_scope(tmp_path)
    [message] = caplog.messages
    assert message.startswith("jobs end when ")
    assert message.endswith("systemd-run: Failed to connect to bus")


def test_a_missing_command_is_told(systemd_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-run is in a package of its own here and there."""
    monkeypatch.setenv("PATH", str(systemd_run.parent))
    with pytest.raises(systemd_scope.ScopeUnavailable, match="systemd-run is not installed"):
        systemd_scope.probe()


def test_a_systemd_that_does_not_answer_is_not_waited_for(
    systemd_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server starts without it rather than never."""
    monkeypatch.setattr(systemd_scope, "_TIMEOUT", 0.1)
    make_command(systemd_run, "exec sleep 1000")
    with pytest.raises(systemd_scope.ScopeUnavailable, match=r"has not responded for 0\.1 s"):
        systemd_scope.probe()


def test_without_systemd_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in most containers: nothing is amiss there, and nothing logged."""
    monkeypatch.setattr(systemd_scope, "_BOOTED", tmp_path / "none")
    assert [] == systemd_scope.supervisor_scope(tmp_path)
    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/worker.service\n", "worker.service"),
        ("0::/system.slice/w.scope/worker-server\n", "w.scope"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n", "run-1.scope"),
        ("5:cpu:/\n1:name=systemd:/system.slice/cron.service\n", "cron.service"),
        ("0::/\n", None),
        ("5:cpu:/docker/x\n", None),
    ],
)
def test_unit_of_a_process(tmp_path: Path, text: str, unit: str | None) -> None:
    """The innermost unit counts, on v1, v2 and hybrid hosts."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1/cgroup").write_text(text)
    assert unit == systemd_scope.unit_of(1, tmp_path)


def test_unit_of_no_process(tmp_path: Path) -> None:
    """What has ended is in none."""
    assert None is systemd_scope.unit_of(1, tmp_path)
