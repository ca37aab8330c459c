"""`worker list`: all jobs, or those that match; the newest ones first."""

import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping

import click

from ...client.client import Client
from ...core.model.job import JobStatus
from ..client_settings import ClientSettings, call, client_options
from ..help_page import command
from ..options.job import Labels, label_option
from ..options.parameters import COUNT
from ..terminal.console import say
from ..terminal.show import format_option, job_object, show_json

_SORTS: Mapping[str, Callable[[JobStatus], tuple[float | str, ...]]] = {
    "created": lambda job: (-job.record.created_at,),
    "name": lambda job: (not job.record.spec.name, job.record.spec.name, -job.record.created_at),
    "memory": lambda job: (-(job.usage.memory_peak or 0),),
    "cpu": lambda job: (-(job.usage.cpu_usec or 0),),
}
_PART = 100
"""Jobs of a table that are printed at once."""


@command("list", examples=("worker list --running", "worker list --failed --label team=a -n 20"))
@click.option("--running", is_flag=True, help="Only jobs that have not finished.")
@click.option("--failed", is_flag=True, help="Only jobs that have finished, and not with exit code 0.")
@click.option("--own", is_flag=True, help="Only jobs that you have started.")
@label_option("Only jobs with this label, NAME=VALUE or NAME!=VALUE; may be repeated.")
@click.option("-n", "--last", "most", type=COUNT, help="Only so many jobs, the newest ones.")
@click.option(
    "--sort", type=click.Choice(list(_SORTS)), default="created", show_default=True, help="Order."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only ids.")
@format_option("json", "jsonl", "wide")
@client_options
def list_jobs(
    settings: ClientSettings,
    labels: Labels,
    most: int | None,
    sort: str,
    form: str | None,
    *,
    running: bool,
    failed: bool,
    own: bool,
    quiet: bool,
) -> None:
    """Print all jobs, the newest ones first.

    On a terminal the table fits it, and a long one is shown page by page ($PAGER, else less).
    """
    if running and failed:
        raise click.UsageError("use only one of --running and --failed")

    async def show(client: Client) -> None:
        found = client.jobs(
            labels=labels.required,
            without_labels=labels.excluded,
            running=running,
            failed=failed,
            own=own,
            newest_first=True,
        )
        await print_jobs(_sorted(first(found, most), sort), "quiet" if quiet else form)

    call(settings, show)


async def print_jobs(jobs: AsyncIterator[JobStatus], form: str | None) -> None:
    """Print jobs as they come: their ids (`quiet`), as JSON, or as a table."""
    match form:
        case "quiet":
            async for job in jobs:
                say(str(job.record.id))
        case "jsonl":
            async for job in jobs:
                say(json.dumps(job_object(job)))
        case "json":
            show_json([job_object(job) async for job in jobs])
        case _:
            from ..terminal.pager import page  # noqa: PLC0415 - only people need it

            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            blocks = _table(jobs, wide=form == "wide", width=None if form == "wide" else width)
            if width is not None:
                await page(blocks)
            else:
                async for block in blocks:
                    say(block)


async def _table(jobs: AsyncIterator[JobStatus], *, wide: bool, width: int | None) -> AsyncIterator[str]:
    from ..terminal.job_table import JobTable  # noqa: PLC0415 - scripts that read JSON do not need it

    table, part, begun = JobTable(wide=wide, width=width), list[JobStatus](), False
    async for job in jobs:
        part.append(job)
        if len(part) == _PART:
            yield "\n".join(table.lines(part))
            part, begun = [], True
    if part or not begun:
        yield "\n".join(table.lines(part))


async def first(jobs: AsyncIterator[JobStatus], most: int | None) -> AsyncIterator[JobStatus]:
    """Yield the first jobs, at most so many; None: all."""
    if most == 0:
        return
    number = 0
    async for job in jobs:
        yield job
        number += 1
        if number == most:
            return


async def _sorted(jobs: AsyncIterator[JobStatus], sort: str) -> AsyncIterator[JobStatus]:
    if sort == "created":
        async for job in jobs:
            yield job
    else:
        for job in sorted([each async for each in jobs], key=_SORTS[sort]):
            yield job
