"""WORKER_HOME, and the address that is recorded in it."""

import os
from pathlib import Path

import pytest

from worker.cli.home import Home, worker_home
from worker.cli.options.address import Address, parse_address
from worker.cli.terminal.console import Failure


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKER_HOME wins; else root has /var/lib/worker, and everybody else a directory of their own."""
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


def test_it_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """A new home is closed to others, whatever the umask is."""
    home = Home(tmp_path / "a" / "worker")
    home.make()
    home.make()
    assert 0o700 == home.path.stat().st_mode & 0o777


def test_one_that_others_can_change_is_refused(tmp_path: Path) -> None:
    """Keys and sockets do not go where others could swap them; the remedy is told."""
    tmp_path.chmod(0o777)
    with pytest.raises(Failure, match=f"others can write to {tmp_path}; run: chmod 700 {tmp_path}"):
        Home(tmp_path).make()


def test_the_address_is_remembered(tmp_path: Path) -> None:
    """Clients find the server at the address it told, and at the default one before that."""
    home = Home(tmp_path)
    assert Address("localhost", 7443) == home.address()
    home.record_address(Address("::1", 1234))
    assert Address("::1", 1234) == home.address()
    home.record_address(Address("0.0.0.0", 1234))
    assert Address("127.0.0.1", 1234) == home.address()


@pytest.mark.parametrize("text", ["127.0.0.1:7443", "[::1]:0", "host.example:65535"])
def test_addresses_read_as_they_are_written(text: str) -> None:
    """An address survives being written and read."""
    assert text == str(parse_address(text))


@pytest.mark.parametrize(
    "text", ["", "7443", ":7443", "host", "host:", "host:x", "host:65536", "host:-1", "::1:7443"]
)
def test_what_is_no_address(text: str) -> None:
    """Half an address is refused."""
    with pytest.raises(ValueError, match=r"HOST:PORT|port|brackets"):
        parse_address(text)
