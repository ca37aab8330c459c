"""`worker down`: stops the server of WORKER_HOME and, on request, its jobs."""

import asyncio
import os
import select
import signal
from collections.abc import Collection

import click

from ...client.address import default_address
from ...client.client import Client
from ...client.contexts import DEFAULT
from ...client.errors import RpcError
from ...client.job import Job
from ...core.model.job import JobId
from ...linux.kernel.locks import lock_holder, open_lock
from ..client_settings import ClientSettings, call
from ..help_page import command
from ..home import Home, worker_home
from ..terminal.console import Failure, progress, say
from ..terminal.printed_objects import DownObject
from ..terminal.show import format_option, show_json


@command(examples=("worker down  # jobs keep running", "worker down --jobs  # stops them too"))
@click.option("--jobs", "stop_jobs", is_flag=True, help="Stop all jobs first.")
@format_option("json", prints=DownObject)
def down(form: str | None, *, stop_jobs: bool) -> None:
    """Stop the server; jobs keep running.

    The next `worker up` or `worker serve` recovers them. This also stops a server of `worker serve`, if
    WORKER_HOME is the same.
    """
    home = worker_home()
    running = None
    server = _open_server(home)
    if server is not None:
        try:
            running = _settle_jobs(home, stop_jobs=stop_jobs)
            _terminate(server)
        finally:
            os.close(server)
    elif stop_jobs:
        raise Failure("no server is up, so its jobs cannot be stopped; run `worker up` first")
    if form == "json":
        show_json(DownObject(stopped=server is not None, running_jobs=running))
    else:
        say("worker is down" if server is not None else "worker is not up")
        if server is not None:
            _report_running(running)


def _report_running(running: int | None) -> None:
    if running == 0:
        return
    many = "jobs keep" if running is None else "1 job keeps" if running == 1 else f"{running} jobs keep"
    them = "it" if running == 1 else "them"
    say(f"{many} running; `worker up` finds {them} again, `worker down --jobs` stops {them}")


def _open_server(home: Home) -> int | None:
    """Return a pidfd of the process that holds the server's lock, None if it is not locked."""
    if not home.server_lock.exists():
        return None
    lock = open_lock(home.server_lock)
    try:
        while holder := lock_holder(lock):
            try:
                server = os.pidfd_open(holder)
            except ProcessLookupError:
                continue
            # If it still holds the lock, its pid was not reused before we opened it.
            if lock_holder(lock) == holder:
                return server
            os.close(server)
        return None
    finally:
        os.close(lock)


def _terminate(server: int) -> None:
    """Terminate the server and wait until it has exited, which releases its lock."""
    signal.pidfd_send_signal(server, signal.SIGTERM)
    progress("Waiting for calls to end ...")
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.poll()


def _settle_jobs(home: Home, *, stop_jobs: bool) -> int | None:
    """Stop the jobs if requested; return how many keep running, None if the server does not answer."""
    settings = ClientSettings(server=default_address(home), reconnect=0, context=DEFAULT)
    if stop_jobs:
        progress("Stopping jobs ...")
        call(settings, _stop_all)
        return 0
    try:
        return len(call(settings, lambda client: client.list(running=True)))
    except Failure:  # the server is stopped all the same
        return None


async def _stop_all(client: Client) -> None:
    """Stop all jobs, including those that are started meanwhile."""
    while jobs := [each.record.id for each in await client.list(running=True)]:
        await _stop_each(client, jobs)


async def _stop_each(client: Client, jobs: Collection[JobId]) -> None:
    stops = (Job(client, job).stop() for job in jobs)
    for outcome in await asyncio.gather(*stops, return_exceptions=True):
        if isinstance(outcome, RpcError) and outcome.code in {"FailedPrecondition", "NotFound"}:
            continue  # the job finished before the call
        if isinstance(outcome, BaseException):
            raise outcome
