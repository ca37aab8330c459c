"""`worker stream`: a job's output, byte for byte."""

from contextlib import nullcontext
from functools import partial

import click

from ...client.client import Client
from ...client.errors import RpcError, ServerUnreachable
from ...client.job import Job
from ...core.model.ending import Channel
from ...core.model.job import LARGEST_OUTPUT
from ...core.model.stream_start import BEGINNING, FromOffset, LastBytes, StreamStart
from ...core.model.stream_times import ANY_TIME, StreamTimes
from ..client_settings import ClientSettings, call, call_job, client_options
from ..failures import failure
from ..help_page import command
from ..job_calls import find_jobs
from ..options.job import ChosenJobs, jobs_argument
from ..options.parameters import TAIL, TIME, Parsed, parse_whole
from ..terminal.meter import Meter
from ..terminal.output_copy import OutputCopies, OutputCopy, resumable

_OFFSET = Parsed("BYTE", partial(parse_whole, below=LARGEST_OUTPUT))
_COUNT = Parsed("BYTES", partial(parse_whole, below=1 << 63))


@command(
    examples=("worker stream JOB", "worker stream --tail 100 --since 10m JOB", "worker stream build test")
)
@jobs_argument
@click.option("--offset", type=_OFFSET, help="Start at this byte.")
@click.option("--tail", type=TAIL, help="Start this many lines before the end; all: print everything.")
@click.option("--tail-bytes", type=_COUNT, help="Start this many bytes before the end.")
@click.option(
    "--since", type=TIME, help="Start with the output of this time: 10m for ten minutes ago, or a date."
)
@click.option("--until", type=TIME, help="End with the output of this time.")
@click.option("--timestamps", "-t", is_flag=True, help="Print before each line when it was written.")
@click.option("--no-follow", is_flag=True, help="Print only the output that exists now.")
@click.option(
    "--progress",
    is_flag=True,
    help="Show bytes and rate on stderr, if stderr is a terminal and stdout is not.",
)
@click.option("--stdout", is_flag=True, help="Print only stdout of a job whose stderr is separate.")
@click.option("--stderr", is_flag=True, help="Print only stderr, on stdout.")
@client_options
def stream(
    settings: ClientSettings,
    chosen: ChosenJobs,
    offset: int | None,
    tail: StreamStart | None,
    tail_bytes: int | None,
    *,
    since: int | None,
    until: int | None,
    timestamps: bool,
    no_follow: bool,
    progress: bool,
    stdout: bool,
    stderr: bool,
) -> None:
    """Print a job's output from its first byte until it ends.

    The output of several jobs is merged: each line has the name of its job before it.

    If stdout and stderr of the job are separate, each goes to that of this command, and a tail is one of
    each; --offset then needs --stdout or --stderr.

    From line 50 on: worker stream JOB | tail -n +50.

    If the connection to the server is lost, the stream resumes at the same byte when it is back.
    """
    starts: list[StreamStart] = [
        *([FromOffset(offset)] if offset is not None else []),
        *([tail] if tail is not None else []),
        *([LastBytes(tail_bytes)] if tail_bytes is not None else []),
    ]
    if len(starts) > 1:
        raise click.UsageError("use only one of --offset, --tail and --tail-bytes")
    if stdout and stderr:
        raise click.UsageError("use only one of --stdout and --stderr")
    if since is not None and until is not None and until < since:
        raise click.UsageError("--until is before --since")
    channel = Channel.STDERR if stderr else Channel.STDOUT if stdout else Channel.OUTPUT
    start, follow = starts[0] if starts else BEGINNING, not no_follow
    times = StreamTimes(since, until, timestamps)
    one_channel = channel is not Channel.OUTPUT or offset is not None

    async def copy(found: Job) -> None:
        if offset is not None and channel is Channel.OUTPUT:
            await _check_offset(found)
        output = (
            OutputCopy(found, into=1, channel=channel, start=start, follow=follow, times=times)
            if one_channel
            else OutputCopies(found, start=start, follow=follow, times=times)
        )
        await copy_output(output, meter)

    if not chosen.single:
        if one_channel or progress or times != ANY_TIME or isinstance(start, LastBytes):
            raise click.UsageError("with several jobs, use only --tail and --no-follow")
        call(settings, partial(_merge, chosen=chosen, start=start, follow=follow))
        return
    with Meter.shown() if progress else nullcontext() as meter:
        call_job(settings, chosen.references[0], copy)


async def _merge(client: Client, chosen: ChosenJobs, start: StreamStart, *, follow: bool) -> None:
    from ..terminal.merged_lines import merge_lines  # noqa: PLC0415 - most streams are of one job

    if jobs := await find_jobs(client, chosen):
        await merge_lines(jobs, start, follow=follow)


async def _check_offset(job: Job) -> None:
    """Raise UsageError if the job has two channels: an offset is that of a byte in one of them."""
    if (await job.query()).record.spec.split_output:
        raise click.UsageError(
            "--offset needs --stdout or --stderr: each has offsets of its own in this job"
        )


async def copy_output(copy: OutputCopy | OutputCopies, meter: Meter | None) -> None:
    """Copy output to its end; an error says how to resume."""
    try:
        async with meter.ticking() if meter else nullcontext():
            await copy.run(meter)
    except (RpcError, ServerUnreachable) as error:
        if not copy.begun or not resumable(error):
            raise
        raise failure(error, f"to resume from here: {copy.rest}") from None
