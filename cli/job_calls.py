"""Calls about several jobs: found by references or labels, made at once, reported in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import click

from ..client.client import Client
from ..client.errors import RpcError
from ..client.job import Job
from .client_settings import ClientSettings, call
from .failures import job_failure
from .options.job import ChosenJobs
from .terminal.console import Failure, say, show_failure
from .terminal.show import show_json

Result = TypeVar("Result")


def for_each_job(
    settings: ClientSettings,
    chosen: ChosenJobs,
    use: Callable[[Job], Awaitable[Result]],
    show: Callable[[Job, Result], object],
    form: str | None,
    *,
    running: bool = False,
    finished: bool = False,
) -> None:
    """Call ``use`` with each job, all at once, and ``show`` the results in the order of the jobs.

    ``show`` returns what JSON has of the job; as JSON, one document with all jobs follows. Of the jobs with
    a label, only those that are not finished with ``running``, only the others with ``finished``. The error
    of one job does not keep the others from being used: it is printed, and the command exits with 1 at the
    end. Raises Failure if only one job is named.
    """
    shown: list[object] = []

    async def each(client: Client) -> bool:
        found = await _found(client, chosen, running=running, finished=finished)
        uses = [asyncio.ensure_future(_used(each, use, chosen)) for each in found]
        failed = False
        for task in uses:
            try:
                job, result = await task
            except Failure as error:
                if chosen.single:
                    raise
                show_failure(error, as_json=form == "json")
                failed = True
            else:
                shown.append(show(job, result))
        return failed

    failed = True
    try:
        failed = call(settings, each)
    finally:
        if form == "json" and (shown or not failed):
            show_json(shown[0] if chosen.single else shown)
    if failed:
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

    def show(job: Job, _: None) -> object:
        if form != "json":
            say(f"Job {job} has been {done}")
        return result(str(job))

    for_each_job(settings, chosen, use, show, form, running=running, finished=finished)


async def find_jobs(client: Client, chosen: ChosenJobs) -> Sequence[Job]:
    """Return the jobs; raise Failure for the first one that cannot be found."""
    return [each.job for each in await _found(client, chosen, running=False, finished=False)]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the server knows as the ``reference`` of the user: a job, or the failure that there is none."""

    reference: str
    outcome: Job | Failure

    @property
    def job(self) -> Job:
        """The job; raises Failure if there is none."""
        if isinstance(self.outcome, Failure):
            raise self.outcome
        return self.outcome


async def _found(client: Client, chosen: ChosenJobs, *, running: bool, finished: bool) -> Sequence[_Found]:
    if chosen.references:
        return await asyncio.gather(*(_find(client, each, chosen) for each in chosen.references))
    labels = chosen.labels
    found = client.jobs(
        labels=labels.required, without_labels=labels.excluded, running=running, finished=finished
    )
    return [_Found(str(each.record.id), Job(client, each.record.id)) async for each in found]


async def _find(client: Client, reference: str, chosen: ChosenJobs) -> _Found:
    try:
        return _Found(reference, await client.job(reference))
    except RpcError as error:
        return _Found(reference, job_failure(error, reference, one_of_several=not chosen.single))


async def _used(
    found: _Found, use: Callable[[Job], Awaitable[Result]], chosen: ChosenJobs
) -> tuple[Job, Result]:
    job = found.job
    try:
        return job, await use(job)
    except RpcError as error:
        raise job_failure(error, found.reference, one_of_several=not chosen.single) from None
