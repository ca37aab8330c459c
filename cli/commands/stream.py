"""`worker stream`: a job's output, byte for byte."""

from contextlib import nullcontext

import click

from ...api.client import RpcError, ServerUnreachable
from ...api.resuming import ResumingClient
from ...api.translate import LONGEST_OUTPUT
from ...core.model.ending import Channel
from ...core.model.stream_start import BEGINNING, FromOffset, LastBytes, LastLines, StreamStart
from ..connection import Connection, call, connection_options
from ..terminal.console import Failure, printable
from ..terminal.meter import Meter
from ..terminal.output_copy import OutputCopy, goes_on
from .jobs import job_argument

_OFFSET = click.IntRange(0, LONGEST_OUTPUT - 1)
_COUNT = click.IntRange(0, (1 << 63) - 1)


@click.command()
@job_argument
@click.option("--offset", type=_OFFSET, metavar="BYTE", help="Begin at this byte.")
@click.option("--tail", type=_COUNT, metavar="LINES", help="Begin so many lines before the end.")
@click.option("--tail-bytes", type=_COUNT, metavar="BYTES", help="Begin so many bytes before the end.")
@click.option("--no-follow", is_flag=True, help="End at what is there now.")
@click.option(
    "--progress",
    is_flag=True,
    help="Show bytes and rate on stderr if that is a terminal, and stdout is none.",
)
@click.option("--stdout", is_flag=True, help="Of split output: this.  [default]")
@click.option("--stderr", is_flag=True, help="Of split output: this.")
@connection_options
def stream(
    connection: Connection,
    job: str,
    offset: int | None,
    tail: int | None,
    tail_bytes: int | None,
    *,
    no_follow: bool,
    progress: bool,
    stdout: bool,
    stderr: bool,
) -> None:
    """Print a job's output from its first byte until it ends.

    When the server goes away, the stream goes on at the same byte as soon as it is back.
    """
    starts: list[StreamStart] = [
        *([FromOffset(offset)] if offset is not None else []),
        *([LastLines(tail)] if tail is not None else []),
        *([LastBytes(tail_bytes)] if tail_bytes is not None else []),
    ]
    if len(starts) > 1:
        raise click.UsageError("use only one of --offset, --tail and --tail-bytes")
    if stdout and stderr:
        raise click.UsageError("use only one of --stdout and --stderr")
    copy = OutputCopy(
        job,
        into=1,
        channel=Channel.STDERR if stderr else Channel.STDOUT if stdout else None,
        start=starts[0] if starts else BEGINNING,
        follow=not no_follow,
    )
    with Meter.shown() if progress else nullcontext() as meter:
        call(connection, lambda client: _copied(client, copy, meter))


async def _copied(client: ResumingClient, copy: OutputCopy, meter: Meter | None) -> None:
    try:
        await copy.run(client, meter)
    except (RpcError, ServerUnreachable) as error:
        if not copy.begun or not goes_on(error):
            raise
        raise Failure(f"{printable(str(error))}; to go on from here: {copy.rest}") from None
