"""`worker run`: runs a job like a command of this shell."""

import asyncio
import signal
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Self
from uuid import uuid4

import click

from ...client.client import Client
from ...client.errors import RpcError, ServerUnreachable
from ...client.job import Job
from ...core.model.ending import Cause, exit_code
from ...core.model.job import JobSpec, JobStatus
from ..client_settings import ClientSettings, client_options
from ..client_settings import client as reporting_client
from ..exit_status import RUN_FAILED, after_signal, spawn_failed
from ..failures import client_failures, failure, words
from ..help_page import command
from ..options.detach_keys import detach_keys_option
from ..options.job_spec import COMMON_OPTIONS, JOB_COMMAND, SECTIONS, job_options, job_spec
from ..terminal.console import (
    Failure,
    PipeClosed,
    WriteFailed,
    note,
    printable,
    progress,
)
from ..terminal.input_copy import InputCopy, ReadFailed, how_to_return
from ..terminal.local_terminal import LocalTerminal
from ..terminal.output_copy import OutputCopies, resumable
from ..terminal.standard_input import StandardInput
from ..terminal.terminal_session import SizeOnly, TerminalSession, copy_until_detached

Passed = InputCopy | TerminalSession | SizeOnly

_DEFAULTS = {"split_output": True}
"""The options whose default is not that of `start`."""


@command(
    context_settings={**JOB_COMMAND, "default_map": _DEFAULTS},
    common=COMMON_OPTIONS,
    sections=SECTIONS,
    examples=("worker run --memory 500M make -j4", "worker run -it --user alice bash -l"),
)
@job_options
@click.option("--rm", "remove", is_flag=True, help="Remove the job and its output when it has finished.")
@detach_keys_option
@client_options
def run(
    settings: ClientSettings,
    request_id: str,
    secrets: Mapping[str, bytes],
    detach_keys: bytes,
    *,
    remove: bool,
    **job: object,
) -> None:
    """Run a command as a job and exit with its exit code.

    Ctrl-C stops the job, a second Ctrl-C kills it. With -it, the job has a terminal: all keys are for the
    job, except Ctrl-P Ctrl-Q, which end only this command. Exit codes of worker itself: 127 if the command
    does not exist, 126 if it cannot be executed, 125 for any other error.
    """
    try:
        with LocalTerminal() as terminal, client_failures(status=RUN_FAILED):
            spec = job_spec(job)
            request_id = request_id or str(uuid4())
            stdin = _passed(spec, terminal, detach_keys, request_id)
            status = asyncio.run(_run(settings, spec, request_id, secrets, stdin, remove=remove))
    except Failure as error:
        raise error.with_status(RUN_FAILED) if error.status == 1 else error from None
    click.get_current_context().exit(status)


def _passed(spec: JobSpec, terminal: LocalTerminal, detach_keys: bytes, session: str) -> Passed | None:
    """Return what passes stdin on to this job; ``session``: as in InputCopy."""
    if not spec.stdin:
        return SizeOnly() if spec.terminal else None
    if spec.terminal is None:
        return InputCopy(StandardInput().read, session)
    if not terminal.present:
        raise Failure("stdin is not a terminal; use -i without -t to pass it, or -t without -i")
    return TerminalSession(terminal, StandardInput(), detach_keys, redraws=False, name=spec.name)


async def _run(
    settings: ClientSettings,
    spec: JobSpec,
    request_id: str,
    secrets: Mapping[str, bytes],
    stdin: Passed | None,
    *,
    remove: bool,
) -> int:
    async with reporting_client(settings) as client, _Interrupts(client) as interrupts:
        job = await _started(client.start(spec, request_id=request_id, secrets=secrets), interrupts)
        copies = OutputCopies(job, spec.channels)
        try:
            if await copy_until_detached(stdin, job, copies):
                return 0
            status = await job.wait()
        except (RpcError, ServerUnreachable) as error:
            if not resumable(error):
                raise failure(error, f"the job may be running: worker query {job}") from None
            again = how_to_return(job, copies.rest, more=stdin is not None and stdin.more)
            raise failure(error, again) from None
        except asyncio.CancelledError:
            if interrupts.failed:
                raise Failure(f"the job could not be stopped: worker query {job}", RUN_FAILED) from None
            if interrupts.first is None:
                raise
            reason = how_to_return(job, copies.rest, more=stdin is not None and stdin.more)
            raise Failure(reason, after_signal(interrupts.first)) from None
        except (PipeClosed, WriteFailed, ReadFailed):
            await _stop(job)  # as SIGPIPE ends a command of a shell
            raise
        if remove:
            await _remove(job)
    return after_signal(interrupts.first) if interrupts.first is not None else _exit_status(job, status)


async def _started(start: Awaitable[Job], interrupts: "_Interrupts") -> Job:
    try:
        job = await start
    except asyncio.CancelledError:
        if interrupts.first is None:
            raise
        raise Failure(
            "interrupted before the server confirmed that the job is started; see `worker list`",
            after_signal(interrupts.first),
        ) from None
    except RpcError as error:
        raise failure(error, status=spawn_failed(error.errno)) from None
    interrupts.job_started(job)
    return job


async def _remove(job: Job) -> None:
    try:
        await job.remove()
    except (RpcError, ServerUnreachable) as error:
        note(f"the job is not removed: {words(error)}; `worker remove {job}` removes it")


def _exit_status(job: Job, status: JobStatus) -> int:
    assert status.ending is not None  # it has finished
    if status.lost_reason:
        raise Failure(f"Job {job} is lost: {printable(status.lost_reason)}", RUN_FAILED)
    if status.cause in {Cause.TIMED_OUT, Cause.OOM_KILLED}:
        note(
            f"Job {job} was {status.cause}"
            if status.cause is Cause.OOM_KILLED
            else f"Job {job} {status.cause}"
        )
    elif status.oom_kills:
        were = "was" if status.oom_kills == 1 else "were"
        note(f"Job {job}: {status.oom_kills} of its processes {were} {Cause.OOM_KILLED}")
    return exit_code(status.ending)


async def _stop(job: Job, grace: float | None = None) -> bool:
    """Stop the job and return True if it has finished; otherwise print the reason."""
    try:
        await job.stop(grace=grace)
    except RpcError as error:
        if error.code != "FailedPrecondition":  # it had already finished
            note(words(error))
            return False
    return True


class _Interrupts:
    """Handles SIGINT, SIGTERM and SIGHUP: the first stops the job, the second kills it, the third exits.

    While the connection to the server is lost, the second exits.
    """

    def __init__(self, client: Client) -> None:
        self.first: int | None = None
        self.failed = False
        self._client = client
        self._job: Job | None = None
        self._stops: set[asyncio.Task[bool]] = set()
        self._main = asyncio.current_task()
        # A signal that our parent ignores (nohup, a background job of a script) stays ignored.
        self._before = {
            number: handler
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if (handler := signal.getsignal(number)) is not signal.SIG_IGN
        }

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in self._before:
            loop.add_signal_handler(number, self._handle, number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore_handlers()
        for stop in self._stops:
            stop.cancel()  # the job has finished, or there is no server to stop it
        await asyncio.gather(*self._stops, return_exceptions=True)

    def job_started(self, job: Job) -> None:
        """Set the job to stop; stop it now if a signal has arrived meanwhile."""
        self._job = job
        if self.first is not None:
            self._stop(None)

    def _handle(self, number: int) -> None:
        if self.first is None:
            self.first = number
            if self._client.away:
                note("the job will be stopped as soon as the server is back; interrupt again to give up")
            elif number == signal.SIGINT:
                progress("stopping the job; interrupt again to kill it")
            self._stop(None)
        elif self._client.away and self._main is not None:
            self._restore_handlers()
            self._main.cancel()
        else:
            self._restore_handlers()
            self._stop(0.0)

    def _stop(self, grace: float | None) -> None:
        if self._job is not None:
            stop = asyncio.ensure_future(_stop(self._job, grace))
            self._stops.add(stop)
            stop.add_done_callback(self._stopped)

    def _stopped(self, stop: "asyncio.Task[bool]") -> None:
        """Cancel the wait for a job that cannot be stopped."""
        if self._main is not None and not stop.cancelled() and not stop.exception() and not stop.result():
            self.failed = True
            self._main.cancel()

    def _restore_handlers(self) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._before.items():
            loop.remove_signal_handler(number)
            if number != signal.SIGINT and callable(handler):  # asyncio restores that of SIGINT
                signal.signal(number, handler)
