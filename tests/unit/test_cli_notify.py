"""sd_notify, both ends."""

import os
import socket
from pathlib import Path

import pytest

from worker.cli.notify import Notifier, NotifyListener


def test_what_is_told_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables arrive; NOTIFY_SOCKET is gone, so that no child of ours speaks in our name."""
    with NotifyListener() as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
        Notifier().tell(READY="1", STATUS="Listening at [::1]:7443 = here")
        assert {"READY": "1", "STATUS": "Listening at [::1]:7443 = here"} == listener.receive(os.getpid())
    assert "NOTIFY_SOCKET" not in os.environ


def test_only_the_child_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process says is not heard."""
    with NotifyListener() as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
        Notifier().tell(READY="1")
        assert {} == listener.receive(os.getpid() + 1)


def test_a_socket_in_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path that systemd gives works as well as an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Notifier().tell(STOPPING="1", STATUS="so long")
        assert b"STOPPING=1\nSTATUS=so long" == systemd.recv(100)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener, or with one that has gone, telling does nothing."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().tell(READY="1")
    with NotifyListener() as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    Notifier().tell(READY="1")
