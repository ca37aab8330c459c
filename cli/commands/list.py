"""`worker list`: all jobs, or those that match; the newest ones first."""

from collections.abc import AsyncIterator, Callable, Mapping

import click

from ...client.client import Client
from ...core.model.job import JobStatus
from ..client_settings import ClientSettings, call, client_options
from ..help_page import command
from ..options.job import Labels, label_option
from ..options.parameters import COUNT
from ..terminal.job_list import first, print_jobs
from ..terminal.job_object import JobObject
from ..terminal.show import format_option

_SORTS: Mapping[str, Callable[[JobStatus], tuple[float | str, ...]]] = {
    "created": lambda job: (-job.record.created_at,),
    "name": lambda job: (not job.record.spec.name, job.record.spec.name, -job.record.created_at),
    "memory": lambda job: (-(job.usage.memory_peak or 0),),
    "cpu": lambda job: (-(job.usage.cpu_usec or 0),),
}


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
@format_option("json", "jsonl", "wide", prints=list[JobObject])
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


async def _sorted(jobs: AsyncIterator[JobStatus], sort: str) -> AsyncIterator[JobStatus]:
    if sort == "created":
        async for job in jobs:
            yield job
    else:
        for job in sorted([each async for each in jobs], key=_SORTS[sort]):
            yield job
