"""The status of a job, as a server returns it."""

from uuid import UUID

from worker.core.model.ending import Cause, Channel, End, Ending, Lost
from worker.core.model.job import Extent, JobId, JobRecord, JobSpec, JobState, JobStatus
from worker.core.model.limits import ResourceUsage

JOB = JobId(UUID("b58476f2-9479-445b-898d-29eeaf905a47"))


def job(
    ending: Ending | None, spec: JobSpec | None = None, cause: Cause = Cause.NONE, job_id: JobId = JOB
) -> JobStatus:
    """Return a job with this ending, or a running one."""
    record = JobRecord(
        id=job_id,
        spec=spec or JobSpec("ls", ["/"]),
        owner="writer",
        request_id="",
        created_at=1.0,
        pid=63136,
        started_at=1.25,
        end=End(ending, cause, 0, {Channel.OUTPUT: 3}, 3.5) if ending else None,
    )
    state = JobState.LOST if isinstance(ending, Lost) else JobState.EXITED if ending else JobState.RUNNING
    return JobStatus(record, state, ending, cause, ResourceUsage(), {Channel.OUTPUT: Extent(0, 3)})
