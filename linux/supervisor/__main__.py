"""Run as ``python -m worker.linux.supervisor STATE_DIR GENERATION READY_FD`` by the server."""

import gc
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from ...core.steps import Step, reached
from .. import crash_points
from ..ipc.event_loop import Loop
from ..ipc.unix_sockets import socket_address
from ..kernel import syscalls
from ..kernel.locks import open_lock, try_lock
from ..logs.handler import configure
from ..logs.lines import DEFAULT
from ..state.layout import Layout
from .supervisor import Supervisor

_GARBAGE_COLLECTION = 10000, 10, 10
"""Thresholds of gc.set_threshold(): with those of Python each job would cost a collection."""


def main() -> None:
    """Detach from the server, listen, report readiness, and run until there are no jobs and no servers."""
    layout, generation, ready = Layout(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    home = layout.generation(generation)
    os.set_inheritable(ready, False)
    if os.fork():
        os._exit(0)  # the server reaps this process; the supervisor is reparented to init or a subreaper
    os.setsid()
    os.umask(0o077)
    configure("supervisor", *DEFAULT)
    lock = open_lock(home / "lock")
    if not try_lock(lock):
        os.write(ready, b"another one runs")
        return
    crash_points.enable("supervisor")
    syscalls.become_subreaper()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = Loop()
    gc.freeze()  # a collection need not look at the modules, which stay
    gc.set_threshold(*_GARBAGE_COLLECTION)
    supervisor = Supervisor(layout, generation, loop)
    _reap_on_sigchld(loop, supervisor)
    directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = _listen(directory)
    loop.watch(listener.fileno(), lambda: supervisor.requests.accept(listener))
    with suppress(BrokenPipeError):  # the server has died meanwhile; the next one connects to us
        os.write(ready, b"ready")
    os.close(ready)
    loop.run(supervisor.do_due_work)
    reached(Step.RETIRED)
    with suppress(FileNotFoundError):  # by descriptor: the path may belong to another installation by now
        os.unlink("socket", dir_fd=directory)


def _listen(directory: int) -> socket.socket:
    with suppress(FileNotFoundError):  # we hold the lock: its creator is dead
        os.unlink("socket", dir_fd=directory)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(socket_address(directory, "socket"))
    listener.listen(64)
    return listener


def _reap_on_sigchld(loop: Loop, supervisor: Supervisor) -> None:
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C and hang-up of a terminal must not stop jobs; systemd stops the scope by SIGTERM.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: supervisor.exit_without_jobs())

    def reap() -> None:
        os.read(wake_read, 65536)
        supervisor.table.reap()

    loop.watch(wake_read, reap)


if __name__ == "__main__":
    main()
