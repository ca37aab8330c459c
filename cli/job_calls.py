"""Calls about several jobs: found by references or labels, made at once, reported in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from ..client.client import Client
from ..client.errors import ClientError, ServerUnreachable
from ..client.job import Job
from .client_settings import ClientSettings, call, find_job
from .options.job import ChosenJobs
from .terminal.console import Failure, note, printable, say
from .terminal.show import show_json

Result = TypeVar("Result")


def for_each_job(
    settings: ClientSettings,
    chosen: ChosenJobs,
    use: Callable[[Job], Awaitable[Result]],
    show: Callable[[Job, Result], None],
    *,
    running: bool = False,
    finished: bool = False,
) -> None:
    """Call ``use`` with each job, all at once, and ``show`` the results in the order of the jobs.

    Of the jobs with a label, only those that are not finished with ``running``, only the others with
    ``finished``. The error of one job does not keep the others from being used: it is printed, and the
    command exits with 1 at the end. Raises Failure if only one job is named.
    """

    async def each(client: Client) -> bool:
        jobs = await _found(client, chosen, running=running, finished=finished)
        uses = [asyncio.ensure_future(_used(each, use)) for each in jobs]
        failed = False
        for job, task in zip(jobs, uses, strict=True):
            try:
                show(job, await task) if isinstance(job, Job) else await task
            except (ClientError, Failure) as error:
                if chosen.single or isinstance(error, ServerUnreachable):
                    raise
                note(printable(str(error)))
                failed = True
        return failed

    if call(settings, each):
        click.get_current_context().exit(1)


def report_each_job(
    settings: ClientSettings,
    chosen: ChosenJobs,
    use: Callable[[Job], Awaitable[None]],
    done: str,
    form: str | None,
    result: Callable[[str], object],
    *,
    running: bool = False,
    finished: bool = False,
) -> None:
    """Call ``use`` with each job as `for_each_job`, and print that it has been ``done``.

    ``result`` makes the object that is printed as JSON, from the id of the job.
    """
    results: list[object] = []

    def show(job: Job, _: None) -> None:
        results.append(result(str(job)))
        if form != "json":
            say(f"Job {job} has been {done}")

    try:
        for_each_job(settings, chosen, use, show, running=running, finished=finished)
    finally:
        if form == "json" and results:
            show_results(results, chosen)


def show_results(results: Sequence[object], chosen: ChosenJobs) -> None:
    """Print the results for one job as an object, those for several as a list, in JSON."""
    show_json(results[0] if chosen.single and results else list(results))


async def find_jobs(client: Client, chosen: ChosenJobs) -> Sequence[Job]:
    """Return the jobs; raise the first error of one that cannot be found."""
    found = await _found(client, chosen, running=False, finished=False)
    return [each if isinstance(each, Job) else each.result() for each in found]


async def _found(
    client: Client, chosen: ChosenJobs, *, running: bool, finished: bool
) -> "Sequence[Job | asyncio.Task[Job]]":
    if chosen.references:
        finding = [asyncio.ensure_future(find_job(client, each)) for each in chosen.references]
        await asyncio.wait(finding)
        return [each.result() if each.exception() is None else each for each in finding]
    labels = chosen.labels
    found = client.jobs(
        labels=labels.required, without_labels=labels.excluded, running=running, finished=finished
    )
    return [Job(client, status.record.id) async for status in found]


async def _used(job: "Job | asyncio.Task[Job]", use: Callable[[Job], Awaitable[Result]]) -> Result:
    return await use(job if isinstance(job, Job) else job.result())
