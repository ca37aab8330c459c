"""The snapshot of a job that a query answers with."""

from collections.abc import Mapping

from ..errors import OutputUnavailable
from ..model.ending import Cause, Channel
from ..model.job import Extent, JobStatus
from ..ports import OutputStore
from .registry import HeldJob


async def status_of(job: HeldJob, outputs: OutputStore) -> JobStatus:
    """Return what is known about a job at this moment."""
    progress = job.progress
    return JobStatus(
        record=job.record,
        state=progress.state,
        ending=progress.ending,
        cause=progress.cause if progress.ending else Cause.NONE,
        usage=await job.scope.usage() if job.scope else job.record.usage,
        output=await _extents(job, outputs),
        output_trouble=progress.output_trouble,
    )


async def _extents(job: HeldJob, outputs: OutputStore) -> Mapping[Channel, Extent]:
    extents = {}
    for channel in job.record.spec.channels:
        try:
            extents[channel] = await outputs.extent(job.record.id, channel)
        except OutputUnavailable:
            size = job.final_size(channel) or 0
            extents[channel] = Extent(size, size)  # written, and nothing of it is left
    return extents
