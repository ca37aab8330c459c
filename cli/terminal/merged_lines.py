"""The output of several jobs, line by line, each with the name of its job before it."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import aclosing

from ...client.job import Job
from ...core.model.stream_start import StreamStart
from .console import printable, say
from .job_table import SHORTEST_ID

_COLOURS = (36, 33, 32, 35, 34, 31)
"""Foreground colours of a terminal (ECMA-48): one for each job, again from the first one on."""


async def merge_lines(jobs: Sequence[Job], start: StreamStart, *, follow: bool) -> None:
    """Print the lines of all jobs as they come, until all have ended; the first error ends all."""
    names = [await _name(job) for job in jobs]
    width = max(map(len, names))
    prefixes = [_coloured(f"{name:<{width}} | ", index) for index, name in enumerate(names)]
    copies = [
        asyncio.ensure_future(_copy(job, prefix, start, follow=follow))
        for job, prefix in zip(jobs, prefixes, strict=True)
    ]
    try:
        await asyncio.gather(*copies)
    finally:
        for each in copies:
            each.cancel()
        await asyncio.gather(*copies, return_exceptions=True)


async def _copy(job: Job, prefix: str, start: StreamStart, *, follow: bool) -> None:
    async with aclosing(job.lines(start=start, follow=follow)) as lines:
        async for line in lines:
            say(prefix + line.removesuffix("\n"))


async def _name(job: Job) -> str:
    name = (await job.query()).record.spec.name
    return printable(name) if name else str(job)[:SHORTEST_ID]


def _coloured(text: str, index: int) -> str:
    """Return a text in the colour of a job, if stdout is a terminal that is not asked for no colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):  # https://no-color.org
        return text
    return f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{text}\x1b[0m"
