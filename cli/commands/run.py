"""`worker run`: a job as if it were a command of this shell."""

import asyncio
import signal
from collections.abc import Sequence
from errno import EACCES, EISDIR, ENOENT, ENOEXEC
from types import TracebackType
from typing import Self, Unpack

import click

from ...api.client import RpcError, ServerUnreachable
from ...api.resuming import ResumingClient
from ...core.model.ending import Cause, Channel, exit_code
from ...core.model.job import JobSpec, JobStatus
from ..connection import Connection, connection_options, failures
from ..options.spec import (
    JOB_COMMAND,
    JobOptions,
    job_options,
    job_spec,
)
from ..terminal.console import (
    Failure,
    PipeClosed,
    WriteFailed,
    note,
    printable,
)
from ..terminal.output_copy import OutputCopy, goes_on

FAILED = 125
"""The job did not fail, the worker did; as docker run and env(1) tell it."""

_SPAWN_STATUS = {ENOENT: 127, EACCES: 126, ENOEXEC: 126, EISDIR: 126}


@click.command(context_settings=JOB_COMMAND)
@job_options
@connection_options
def run(connection: Connection, **job: Unpack[JobOptions]) -> None:
    """Run a command as a job and exit with its exit code.

    Everything from CMD on belongs to the job, also what looks like an option. Ctrl-C stops the
    job, a second one kills it. Exit codes of worker itself: 127 when there is no such command,
    126 when it cannot be executed, 125 for everything else that goes wrong.
    """
    try:
        with failures(status=FAILED):
            status = asyncio.run(_run(connection, job_spec(job), job["request_id"] or ""))
    except Failure as error:
        raise Failure(str(error), FAILED if error.status == 1 else error.status) from None
    click.get_current_context().exit(status)


async def _run(connection: Connection, spec: JobSpec, request_id: str) -> int:
    async with connection.client() as client, _Interrupts(client) as interrupts:
        try:
            job = str(await client.start(spec, request_id=request_id))
        except asyncio.CancelledError:
            if interrupts.first is None:
                raise
            raise Failure(
                "interrupted before the server has said whether the job is started; `worker list` tells",
                128 + interrupts.first,
            ) from None
        except RpcError as error:
            raise Failure(printable(str(error)), _SPAWN_STATUS.get(error.errno or 0, FAILED)) from None
        interrupts.job_started(job)
        copies = [
            OutputCopy(job, into=2 if channel is Channel.STDERR else 1, channel=channel)
            for channel in spec.channels
        ]
        try:
            await _copy_all(client, copies)
            status = await client.wait(job)
        except (RpcError, ServerUnreachable) as error:
            if not goes_on(error):
                raise
            raise Failure(f"{printable(str(error))}; the job goes on: {_rest_of(copies)}") from None
        except asyncio.CancelledError:
            if interrupts.failed:
                raise Failure(f"the job could not be stopped: worker query {job}", FAILED) from None
            if interrupts.first is None:
                raise
            raise Failure(f"the job goes on: {_rest_of(copies)}", 128 + interrupts.first) from None
        except (PipeClosed, WriteFailed):
            await _stop(client, job)  # as SIGPIPE would end a command of this shell
            raise
    return 128 + interrupts.first if interrupts.first is not None else _exit_status(job, status)


async def _copy_all(client: ResumingClient, copies: Sequence[OutputCopy]) -> None:
    """Write each channel to the descriptor of its name, until one fails or all have ended."""
    under_way = [asyncio.ensure_future(copy.run(client)) for copy in copies]
    try:
        await asyncio.gather(*under_way)
    finally:
        for copy in under_way:
            copy.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _rest_of(copies: Sequence[OutputCopy]) -> str:
    """Return the commands that print what has not come of a job's output."""
    return ", and ".join(copy.rest for copy in copies)


def _exit_status(job: str, status: JobStatus) -> int:
    assert status.ending is not None  # it is over
    if status.lost_reason:
        raise Failure(f"Job {job} is lost: {printable(status.lost_reason)}", FAILED)
    if status.cause in {Cause.TIMED_OUT, Cause.OOM_KILLED}:
        note(
            f"Job {job} was {status.cause}"
            if status.cause is Cause.OOM_KILLED
            else f"Job {job} {status.cause}"
        )
    return exit_code(status.ending)


async def _stop(client: ResumingClient, job: str, grace: float | None = None) -> bool:
    """Return whether the job is over; if it cannot be stopped, say why."""
    try:
        await client.stop(job, grace=grace)
    except RpcError as error:
        if error.code != "FailedPrecondition":  # it was faster
            note(printable(str(error)))
            return False
    return True


class _Interrupts:
    """Ctrl-C and its like: the first stops the job, the second kills it, a third ends just us.

    While there is no server that could be told so, the second ends us already.
    """

    def __init__(self, client: ResumingClient) -> None:
        self.first: int | None = None
        self.failed = False
        self._client = client
        self._job: str | None = None
        self._stops: set[asyncio.Task[bool]] = set()
        self._main = asyncio.current_task()
        # What our parent ignores (nohup, a background job of a script) stays ignored.
        self._signals = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self._arrived, number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        for stop in self._stops:
            stop.cancel()  # the job is over, or nobody can be told to stop it
        await asyncio.gather(*self._stops, return_exceptions=True)

    def job_started(self, job: str) -> None:
        """Note what there is to stop, and do so if somebody has asked for it meanwhile."""
        self._job = job
        if self.first is not None:
            self._stop(None)

    def _arrived(self, number: int) -> None:
        if self.first is None:
            self.first = number
            if self._client.away:
                note("the job is stopped as soon as the server is back; interrupt again to give up")
            self._stop(None)
        elif self._client.away and self._main is not None:
            self._let_go()
            self._main.cancel()
        else:
            self._let_go()
            self._stop(0.0)

    def _stop(self, grace: float | None) -> None:
        if self._job is not None:
            stop = asyncio.ensure_future(_stop(self._client, self._job, grace))
            self._stops.add(stop)
            stop.add_done_callback(self._stopped)

    def _stopped(self, stop: "asyncio.Task[bool]") -> None:
        """Wait no longer for a job that cannot be stopped."""
        if self._main is not None and not stop.cancelled() and not stop.exception() and not stop.result():
            self.failed = True
            self._main.cancel()

    def _let_go(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.remove_signal_handler(number)
