"""`worker up`: starts a server of this user in the background."""

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from ...cgroups.hierarchy.detection import detect
from ...client import contexts
from ...client.address import default_address, is_loopback
from ...client.contexts import DEFAULT
from ...linux.kernel.locks import lock_holder, open_lock
from ...linux.spawner import systemd_scope
from .. import last_up
from ..help_page import command
from ..home import Home, worker_home
from ..notify import ADDRESS_VARIABLE, NotifyListener
from ..outside_address import outside
from ..private_files import correction
from ..settings import COMMON_SETTINGS, arguments, resolve, settings_options
from ..terminal.console import Failure, note, progress, say
from ..terminal.printed_objects import UpObject
from ..terminal.show import format_option, show_json

_LAST_LINES = 10


@command(
    common=COMMON_SETTINGS | {"form", "free_port_if_busy"},
    examples=("worker up", "worker up --listen 0.0.0.0:7443"),
)
@settings_options
@format_option("json", prints=UpObject)
def up(config: Path | None, form: str | None, **options: object) -> None:
    """Start a server of your own in the background.

    Creates keys and state in WORKER_HOME on first use, and returns when the server is ready. If the
    port is in use, the server takes a free one, and records it for the other commands.
    """
    home = worker_home()
    if exposed := home.make():
        note(correction(exposed))
    given = [*(["--config", str(config)] if config is not None else []), *arguments(options)]
    with _up_lock(home):
        if _is_running(home):
            address, started = str(default_address(home)), False
        else:
            settings = resolve(options, config)
            if not any(options[name] for name in ("tls_ca", "tls_cert", "tls_key")):
                _make_keys(home, settings.listen.host)
            _compare_with_last(home, last_up.kept_options(settings, config))
            address, started = _start(home, given), True
    if form == "json":
        show_json(UpObject(address=address, started=started))
    else:
        say(f"worker is {'up' if started else 'already up'} at {address}")
        if started:
            selected = os.environ.get("WORKER_CONTEXT") or contexts.current()
            say(f"try: worker run {'' if selected == DEFAULT else f'--context {DEFAULT} '}hostname")
    if not started and _has_options():
        note("it keeps the options with which it was started; `worker down` first, then `worker up`")


def _has_options() -> bool:
    """Whether the command line has an option of the server, which a running one does not get."""
    context = click.get_current_context()
    given = (name for name in context.params if name != "form")
    return any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in given)


def _compare_with_last(home: Home, options: Mapping[str, str]) -> None:
    """Say which options of the last server this one lacks: it has others' access, or another address."""
    if lacks := last_up.dropped(home, options):
        note(lacks)
    last_up.record(home, options)


def _make_keys(home: Home, host: str) -> None:
    """Create keys; a server that other machines reach also gets the host under which they do."""
    if home.pki.exists():
        return
    # cryptography is loaded the first time only
    from ...api.authority import KeyType  # noqa: PLC0415
    from ...api.certificates import init  # noqa: PLC0415
    from .certs_output import failures, progress_of  # noqa: PLC0415

    kind = KeyType.RSA_4096
    with failures():
        init(
            home.pki,
            hosts=[] if is_loopback(host) else [outside(host)],
            key_type=kind,
            on_key=progress_of(kind),
        )


def _start(home: Home, given: Sequence[str]) -> str:
    """Start the server, wait until it is ready, and return its address."""
    with NotifyListener() as listener, open(home.log, "ab", opener=partial(os.open, mode=0o600)) as log:
        begin = log.tell()
        # -P: do not import a directory `worker` in the current directory as the package.
        command = [sys.executable, "-P", "-m", "worker.cli.main", "serve", "--free-port-if-busy"]
        server = subprocess.Popen(
            [*_systemd_scope(home), *command, *given],
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
        raise Failure(
            f"the server did not start; the last lines of {home.log}:\n{_last_lines(home.log, begin)}"
        )
    return address


def _systemd_scope(home: Home) -> list[str]:
    """Return the command that runs the server in a systemd scope where it can create control groups.

    Empty for root, who can create them anywhere, and in a cgroup that is delegated already.
    """
    if os.geteuid() == 0 or detect(os.getpid()).delegated:
        return []
    try:
        systemd_scope.probe()
    except systemd_scope.ScopeUnavailable:
        return []  # the server logs what it does instead
    return systemd_scope.scope(home.path, "server")


def _wait_until_ready(server: "subprocess.Popen[bytes]", listener: NotifyListener) -> str | None:
    """Return the address that the server reports, None if it exits instead."""
    exited = os.pidfd_open(server.pid)
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(exited, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if listener.fileno() in ready:
                message = listener.receive(server.pid)
                if message.get("READY") == "1":
                    return message[ADDRESS_VARIABLE]
            elif exited in ready:
                server.wait()
                return None
    finally:
        os.close(exited)


def _last_lines(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="backslashreplace").splitlines()
    return "\n".join(lines[-_LAST_LINES:])


def _is_running(home: Home) -> bool:
    descriptor = open_lock(home.server_lock)
    try:
        return lock_holder(descriptor) != 0
    finally:
        os.close(descriptor)


@contextmanager
def _up_lock(home: Home) -> Iterator[None]:
    """Make a second `worker up` wait for the first, so that it finds the first one's server."""
    descriptor = open_lock(home.up_lock)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
