"""Files that decide who may do what, in places where others could replace them."""

import os
import signal
from pathlib import Path

import pytest

from ..support.fixtures import Install
from ..support.waiting import wait_until

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a server of another user only warns")


@AS_ROOT
def test_a_server_of_root_does_not_use_them(install: Install, tmp_path: Path) -> None:
    """Settings and files of TLS in a directory that others can write to are refused, with the remedy."""
    installation = install(tmp_path / "home")
    place = tmp_path / "place"
    place.mkdir()
    for name in ("ca.crt", "server.crt", "server.key"):
        (place / name).write_bytes((installation.home / "pki" / name).read_bytes())
    (place / "denied").touch()
    (place / "worker.toml").touch()
    place.chmod(0o777)
    cases = {
        "--tls-ca": "ca.crt",
        "--tls-key": "server.key",
        "--tls-denied": "denied",
        "--config": "worker.toml",
    }
    for option, name in cases.items():
        done = installation.run("serve", option, str(place / name))
        assert 1 == done.returncode
        expected = f"{place}, on the way to {place / name}, can be written by others than its owner"
        assert f"{expected}: chmod go-w {place}\n" in done.stderr.decode()


@AS_ROOT
def test_a_reload_does_not_use_them(install: Install, tmp_path: Path) -> None:
    """What was read before stays in force, and the log has the reason."""
    denied = tmp_path / "place" / "denied"
    denied.parent.mkdir()
    denied.touch()
    installation = install(tmp_path / "home")
    installation.worker("up", "--tls-denied", str(denied))
    denied.parent.chmod(0o777)
    os.kill(installation.server_pid(), signal.SIGHUP)
    log = installation.home / "server.log"
    wait_until(lambda: f"chmod go-w {denied.parent}" in log.read_text())
    assert b"[]\n" == installation.run("list", "-o", "json").stdout
