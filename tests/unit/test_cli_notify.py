"""Both ends of sd_notify."""

import os
import socket
from pathlib import Path

import pytest

from worker.cli.notify import Notifier, NotifyListener


def test_variables_are_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables arrive; NOTIFY_SOCKET is removed, so that child processes do not send as us."""
    with NotifyListener() as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
        Notifier().send(READY="1", STATUS="Listening at [::1]:7443 = here")
        assert {"READY": "1", "STATUS": "Listening at [::1]:7443 = here"} == listener.receive(os.getpid())
    assert "NOTIFY_SOCKET" not in os.environ


def test_other_senders_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message from another process is ignored."""
    with NotifyListener() as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
        Notifier().send(READY="1")
        assert {} == listener.receive(os.getpid() + 1)


def test_a_socket_in_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, as systemd uses, works like an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Notifier().send(STOPPING="1", STATUS="so long")
        assert b"STOPPING=1\nSTATUS=so long" == systemd.recv(100)


def test_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending does nothing if there is no listener, or if it has closed the socket."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().send(READY="1")
    with NotifyListener() as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    Notifier().send(READY="1")
