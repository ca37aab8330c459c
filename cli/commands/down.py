"""`worker down`: the end of the server in the background, and on request of its jobs."""

import asyncio
import os
import select
import signal
from collections.abc import Collection

import click

from ...api.client import RpcError
from ...api.resuming import ResumingClient
from ...core.model.job import JobId
from ...linux.kernel.locks import lock_holder, open_lock
from ..connection import Connection, call
from ..home import Home, worker_home
from ..terminal.console import Failure, progress, say
from ..terminal.show import format_option, show_json


@click.command()
@click.option("--jobs", "stop_jobs", is_flag=True, help="Stop all jobs first.")
@format_option("json")
def down(form: str | None, *, stop_jobs: bool) -> None:
    """End the server in the background; jobs run on.

    The next `worker up` takes them up again.
    """
    home = worker_home()
    running = None
    server = _open_server(home)
    if server is not None:
        try:
            running = _settle_jobs(home, stop_jobs=stop_jobs)
            _end(server)
        finally:
            os.close(server)
    elif stop_jobs:
        raise Failure("worker is not up, so that its jobs cannot be stopped; run `worker up` first")
    if form == "json":
        show_json({"stopped": server is not None, "running_jobs": running})
    else:
        say("worker is down" if server is not None else "worker is not up")
        if server is not None:
            _tell_of_jobs(running)


def _tell_of_jobs(running: int | None) -> None:
    if running == 0:
        return
    many = "jobs keep" if running is None else "1 job keeps" if running == 1 else f"{running} jobs keep"
    them = "it" if running == 1 else "them"
    say(f"{many} running; `worker up` finds {them} again, `worker down --jobs` stops {them}")


def _open_server(home: Home) -> int | None:
    """Return a pidfd of the process that holds the server's lock, None if nobody does."""
    if not home.server_lock.exists():
        return None
    lock = open_lock(home.server_lock)
    try:
        while holder := lock_holder(lock):
            try:
                server = os.pidfd_open(holder)
            except ProcessLookupError:
                continue
            if (
                lock_holder(lock) == holder
            ):  # so the pid had not passed to somebody else before we opened it
                return server
            os.close(server)
        return None
    finally:
        os.close(lock)


def _end(server: int) -> None:
    """Ask the server to end, and wait until it has; its lock is free then."""
    signal.pidfd_send_signal(server, signal.SIGTERM)
    progress("Waiting for calls to end ...")
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.poll()


def _settle_jobs(home: Home, *, stop_jobs: bool) -> int | None:
    """Stop the jobs if that is wanted, and return how many run on; None if the server does not say."""
    connection = Connection(server=home.address(), reconnect=0)
    if stop_jobs:
        progress("Stopping jobs ...")
        call(connection, _stop_all)
        return 0
    try:
        return len(call(connection, lambda client: client.list(running=True)))
    except Failure:  # no reason to leave the server up
        return None


async def _stop_all(client: ResumingClient) -> None:
    """Stop what runs, and what was started meanwhile."""
    while jobs := [each.record.id for each in await client.list(running=True)]:
        await _stop_each(client, jobs)


async def _stop_each(client: ResumingClient, jobs: Collection[JobId]) -> None:
    for outcome in await asyncio.gather(*(client.stop(str(job)) for job in jobs), return_exceptions=True):
        if isinstance(outcome, RpcError) and outcome.code in {"FailedPrecondition", "NotFound"}:
            continue  # it ended by itself
        if isinstance(outcome, BaseException):
            raise outcome
