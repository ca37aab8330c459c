"""`worker attach`: a running job's output from now on, and its stdin."""

import click

from ...api.client import RpcError, ServerUnreachable
from ...api.resuming import ResumingClient
from ...core.model.job import Extent
from ...core.model.stream_start import FromOffset
from ..client_settings import ClientSettings, call, client_options
from ..options.job import job_argument
from ..terminal.console import Failure, printable
from ..terminal.input_copy import InputCopy, copy_beside
from ..terminal.output_copy import OutputCopies


@click.command()
@click.option("-i", "--interactive", is_flag=True, help="Pass stdin on to the job, with its end.")
@job_argument
@client_options
def attach(settings: ClientSettings, job: str, *, interactive: bool) -> None:
    """Print a running job's output from now on, and pass stdin on to it.

    With -i, the job must have been started with -i; one client at a time can write to it. Ends with the
    job. Ctrl-C ends only this command: the job keeps running, and its stdin stays open.
    """
    stdin = InputCopy() if interactive else None
    call(settings, lambda client: _attach(client, job, stdin))


async def _attach(client: ResumingClient, job: str, stdin: InputCopy | None) -> None:
    status = await client.query(job)
    if status.state.over:
        raise Failure(f"the job has finished; its output: worker stream {job}")
    # From the time of the query on: the answers to input come later.
    extents = status.output
    copies = OutputCopies(
        job,
        {each: FromOffset(extents.get(each, Extent(0, 0)).end) for each in status.record.spec.channels},
    )
    try:
        await copy_beside(stdin, client, job, copies.run(client))
    except (RpcError, ServerUnreachable) as error:
        if isinstance(error, RpcError) and error.code != "Unavailable":
            raise
        raise Failure(f"{printable(str(error))}; the job keeps running: {copies.rest}") from None
