"""`worker stream`: a job's output, byte for byte."""

from contextlib import aclosing, nullcontext

import click

from ..api.client import ServerUnreachable
from ..api.resuming import ResumingClient
from ..core.ending import Channel
from .connection import Connection, call, connection_options
from .console import Failure, note
from .descriptor import OutputDescriptor
from .jobs import job_argument
from .meter import Meter


async def copy_output(
    client: ResumingClient,
    job: str,
    *,
    into: int,
    channel: Channel | None = None,
    offset: int = 0,
    tail_lines: int | None = None,
    tail_bytes: int | None = None,
    follow: bool = True,
    meter: Meter | None = None,
) -> None:
    """Write a job's output to a descriptor until it ends, saying where some is no longer kept."""
    sink = OutputDescriptor(into)
    position = offset if tail_lines is None and tail_bytes is None else None
    chunks = client.stream(
        job, channel=channel, offset=offset, tail_lines=tail_lines, tail_bytes=tail_bytes, follow=follow
    )
    try:
        async with sink.until_closed(), aclosing(chunks):
            async for chunk in chunks:
                if position is not None and chunk.offset > position:
                    note(f"{chunk.offset - position} bytes from offset {position} on are no longer kept")
                await sink.write(chunk.data)
                if meter is not None:
                    meter.add(len(chunk.data))
                position = chunk.offset + len(chunk.data)
    except ServerUnreachable as error:
        if not position:
            raise
        raise Failure(f"{error}; to go on from here: worker stream {job} --offset {position}") from None


_COUNT = click.IntRange(0, (1 << 63) - 1)


@click.command()
@job_argument
@click.option("--offset", type=_COUNT, metavar="BYTE", help="Begin at this byte.")
@click.option("--tail", type=_COUNT, metavar="LINES", help="Begin so many lines before the end.")
@click.option("--tail-bytes", type=_COUNT, metavar="BYTES", help="Begin so many bytes before the end.")
@click.option("--no-follow", is_flag=True, help="End at what is there now.")
@click.option(
    "--progress",
    is_flag=True,
    help="Show bytes and rate on stderr if that is a terminal, and stdout is none.",
)
@click.option(
    "--stdout", "channel", flag_value=Channel.STDOUT, type=Channel, help="Of split output: this.  [default]"
)
@click.option("--stderr", "channel", flag_value=Channel.STDERR, type=Channel, help="Of split output: this.")
@connection_options
def stream(
    connection: Connection,
    job: str,
    offset: int | None,
    tail: int | None,
    tail_bytes: int | None,
    channel: Channel | None,
    *,
    no_follow: bool,
    progress: bool,
) -> None:
    """Print a job's output from its first byte until it ends.

    When the server goes away, the stream goes on at the same byte as soon as it is back.
    """
    if sum(each is not None for each in (offset, tail, tail_bytes)) > 1:
        raise click.UsageError("use only one of --offset, --tail and --tail-bytes")
    with Meter.shown() if progress else nullcontext() as meter:
        call(
            connection,
            lambda client: copy_output(
                client,
                job,
                into=1,
                channel=channel,
                offset=offset or 0,
                tail_lines=tail,
                tail_bytes=tail_bytes,
                follow=not no_follow,
                meter=meter,
            ),
        )
