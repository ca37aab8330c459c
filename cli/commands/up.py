"""`worker up`: a server of one's own, in the background."""

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from ...cgroups.hierarchy.hierarchy import detect
from ...linux.kernel.locks import lock_holder, open_lock
from ...linux.spawner import systemd_scope
from ..home import Home, worker_home
from ..notify import ADDRESS_VARIABLE, NotifyListener
from ..settings import arguments, settings_options
from ..terminal.console import Failure, progress, say
from ..terminal.show import format_option, show_json

_LAST_LINES = 10


@click.command()
@settings_options
@format_option("json")
def up(config: Path | None, form: str | None, **options: object) -> None:
    """Start a server of your own in the background.

    Makes keys and state in WORKER_HOME on first use, and returns when the server is ready. Takes
    a free port where the one that is set is busy; the other commands find it.
    """
    home = worker_home()
    home.make()
    given = [*(["--config", str(config)] if config is not None else []), *arguments(options)]
    with _one_at_a_time(home):
        if _runs(home):
            address, started = str(home.address()), False
        else:
            if not any(options[name] for name in ("tls_ca", "tls_cert", "tls_key")):
                _make_keys(home)
            address, started = _start(home, given), True
    if form == "json":
        show_json({"address": address, "started": started})
    else:
        say(f"worker is {'up' if started else 'already up'} at {address}")


def _make_keys(home: Home) -> None:
    if home.pki.exists():
        return
    from ...api import certificates  # noqa: PLC0415 - cryptography is loaded the first time only

    try:
        certificates.init(home.pki, on_key=lambda what: progress(f"Making RSA keys: {what} ..."))
    except certificates.CertificateError as error:
        raise Failure(str(error)) from None


def _start(home: Home, given: Sequence[str]) -> str:
    """Start the server, wait until it is ready, and return its address."""
    with NotifyListener() as listener, open(home.log, "ab", opener=_private) as log:
        begin = log.tell()
        # -P: a directory `worker` where we happen to be is not the package.
        command = [sys.executable, "-P", "-m", "worker.cli.main", "serve", "--free-port-if-busy"]
        server = subprocess.Popen(
            [*_own_scope(home), *command, *given],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**systemd_scope.environment(), "NOTIFY_SOCKET": listener.address},
            start_new_session=True,
        )
        progress("Waiting for the server ...")
        try:
            address = _wait_until_ready(server, listener)
        except BaseException:
            server.terminate()
            raise
    if address is None:
        raise Failure(f"the server did not start; {home.log} says:\n{_last_lines(home.log, begin)}")
    return address


def _own_scope(home: Home) -> list[str]:
    """Return how to have the server executed where it can make control groups for jobs.

    Root can everywhere, others in what systemd has delegated to them.
    """
    if os.geteuid() == 0 or detect(os.getpid()).delegated:
        return []
    try:
        systemd_scope.probe()
    except systemd_scope.ScopeUnavailable:
        return []  # the server says what it does without
    return systemd_scope.scope(home.path, "server")


def _wait_until_ready(server: "subprocess.Popen[bytes]", listener: NotifyListener) -> str | None:
    """Return the address that the server tells, None if it ends instead."""
    ended = os.pidfd_open(server.pid)
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if listener.fileno() in ready:
                told = listener.receive(server.pid)
                if told.get("READY") == "1":
                    return told[ADDRESS_VARIABLE]
            elif ended in ready:
                server.wait()
                return None
    finally:
        os.close(ended)


def _last_lines(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="backslashreplace").splitlines()
    return "\n".join(lines[-_LAST_LINES:])


def _runs(home: Home) -> bool:
    descriptor = open_lock(home.server_lock)
    try:
        return lock_holder(descriptor) != 0
    finally:
        os.close(descriptor)


@contextmanager
def _one_at_a_time(home: Home) -> Iterator[None]:
    """Have a second `worker up` wait for the first, and then find its server."""
    descriptor = open_lock(home.up_lock)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
