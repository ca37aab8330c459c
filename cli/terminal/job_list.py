"""A list of jobs as it comes from the server: ids, JSON, or a table in parts."""

import json
import shutil
import sys
from collections.abc import AsyncIterator

from ...core.model.job import JobStatus
from .console import say
from .job_object import job_object
from .show import show_json

_PART = 100
"""Jobs of a table that are printed at once."""


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
            from .pager import page  # noqa: PLC0415 - only people need it

            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            blocks = _table(jobs, wide=form == "wide", width=None if form == "wide" else width)
            if width is not None:
                await page(blocks)
            else:
                async for block in blocks:
                    say(block)


async def _table(jobs: AsyncIterator[JobStatus], *, wide: bool, width: int | None) -> AsyncIterator[str]:
    from .job_table import JobTable  # noqa: PLC0415 - scripts that read JSON do not need it

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
