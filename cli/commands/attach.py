"""`worker attach`: a running job's output from now on, and its stdin."""

import click

from ...client.errors import RpcError, ServerUnreachable
from ...client.job import Job
from ...core.model.job import Extent
from ...core.model.stream_start import FromOffset
from ..client_settings import ClientSettings, call_job, client_options
from ..failures import failure
from ..help_page import command
from ..options.detach_keys import detach_keys_option
from ..options.job import job_argument
from ..terminal.console import Failure
from ..terminal.input_copy import InputCopy, how_to_return
from ..terminal.local_terminal import LocalTerminal
from ..terminal.output_copy import OutputCopies
from ..terminal.standard_input import StandardInput
from ..terminal.terminal_session import TerminalSession, copy_until_detached


@command(examples=("worker attach JOB  # output from now on", "worker attach -i JOB  # and type its input"))
@click.option("-i", "--interactive", is_flag=True, help="Pass stdin on to the job, with its end.")
@detach_keys_option
@job_argument
@client_options
def attach(settings: ClientSettings, job: str, detach_keys: bytes, *, interactive: bool) -> None:
    """Print a running job's output from now on, and pass stdin on to it.

    With -i, the job must have been started with -i; one client at a time can write to it. Ends with the
    job. Ctrl-C ends only this command: the job keeps running, and its stdin stays open.

    If the job has a terminal (-t) and stdin is one, all keys are for the job, also Ctrl-C, except the
    detach keys, which end only this command.
    """
    stdin = StandardInput() if interactive else None
    with LocalTerminal() as terminal:
        call_job(settings, job, lambda found: _attach(found, stdin, terminal, detach_keys))


async def _attach(
    job: Job,
    stdin: StandardInput | None,
    terminal: LocalTerminal,
    detach_keys: bytes,
) -> None:
    status = await job.query()
    if status.state.over:
        raise Failure(f"Job {job} has finished; `worker stream {job}` prints its output")
    # From the time of the query on: the answers to input come later.
    extents = status.output
    copies = OutputCopies(
        job,
        {each: FromOffset(extents.get(each, Extent(0, 0)).end) for each in status.record.spec.channels},
    )
    passed: TerminalSession | InputCopy | None = None
    if stdin is not None:
        on_terminal = status.record.spec.terminal is not None
        passed = (
            TerminalSession(terminal, stdin, detach_keys, redraws=True, name=status.record.spec.name)
            if on_terminal
            else InputCopy(stdin.read)
        )
    try:
        await copy_until_detached(passed, job, copies)
    except (RpcError, ServerUnreachable) as error:
        if isinstance(error, RpcError) and error.code != "Unavailable":
            raise
        again = how_to_return(job, copies.rest, more=passed is not None and passed.more)
        raise failure(error, again) from None
