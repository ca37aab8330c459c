"""systemd scopes without systemd: the arguments of systemd-run, and the messages if it fails."""

import os
from pathlib import Path

import pytest

from worker.core.host.unit_names import is_supervisor_systemd_scope, worker_name
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


def test_a_supervisor_gets_its_own_delegated_scope(systemd_run: Path, tmp_path: Path) -> None:
    """Every name is different, contains the name of the worker, and is recognized by doctor."""
    make_command(systemd_run, "exit 0")
    one, other = (systemd_scope.supervisor_scope(tmp_path) for _ in range(2))
    assert "--property=Delegate=yes" in one
    assert ("systemd-run", "--") == (one[0], one[-1])
    assert (os.geteuid() != 0) == ("--user" in one)
    names = [word.removeprefix("--unit=") for word in (*one, *other) if word.startswith("--unit=")]
    assert 2 == len(set(names))
    for name in names:
        assert name.startswith(worker_name(tmp_path))
        assert is_supervisor_systemd_scope(f"{name}.scope")


def test_without_a_scope_the_log_states_the_consequence(
    systemd_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, with the message of systemd-run; the supervisor is started nevertheless."""
    make_command(systemd_run, "echo Failed to connect to bus >&2; exit 1")
    assert [] == systemd_scope.supervisor_scope(tmp_path)
    [message] = caplog.messages
    assert message.startswith("jobs end when ")
    assert message.endswith("systemd-run: Failed to connect to bus")


def test_a_missing_systemd_run_is_reported(systemd_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some distributions have systemd-run in a separate package."""
    monkeypatch.setenv("PATH", str(systemd_run.parent))
    with pytest.raises(systemd_scope.ScopeUnavailable, match="systemd-run is not installed"):
        systemd_scope.probe()


def test_a_systemd_that_does_not_respond_is_an_error(
    systemd_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server starts without a scope instead of hanging."""
    monkeypatch.setattr(systemd_scope, "_TIMEOUT", 0.1)
    make_command(systemd_run, "exec sleep 1000")
    with pytest.raises(systemd_scope.ScopeUnavailable, match=r"has not responded for 0\.1 s"):
        systemd_scope.probe()


def test_without_systemd_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in most containers: that is not a problem, and nothing is logged."""
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


def test_unit_of_a_missing_process(tmp_path: Path) -> None:
    """A process that has exited is in no unit."""
    assert None is systemd_scope.unit_of(1, tmp_path)
