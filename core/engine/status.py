"""The snapshot of a job that Query returns."""

from collections.abc import Mapping

from ..errors import OutputUnavailable
from ..model.ending import Cause, Channel
from ..model.job import Extent, JobStatus
from ..ports import OutputStore
from .job_entry import JobEntry


async def status_of(job: JobEntry, outputs: OutputStore) -> JobStatus:
    """Return a snapshot of a job."""
    progress, record, scope = job.progress, job.record, job.scope
    return JobStatus(
        record=record,
        state=progress.state,
        ending=progress.ending,
        cause=progress.cause if progress.ending else Cause.NONE,
        usage=await scope.usage() if scope else record.usage,
        output=await _extents(job, outputs),
        output_trouble=progress.output_trouble,
        paused=progress.paused,
    )


async def _extents(job: JobEntry, outputs: OutputStore) -> Mapping[Channel, Extent]:
    extents = {}
    for channel in job.record.spec.channels:
        try:
            extents[channel] = await outputs.extent(job.record.id, channel)
        except OutputUnavailable:
            size = job.final_size(channel) or 0
            extents[channel] = Extent(size, size)  # the output was deleted; its size is still known
    return extents
