"""The errors that the original design prints for a job, which its clients parse; all others are sentences.

    worker query ID    rpc error: code = NotFound desc = Job ID not found
    worker stream ID   the same
    worker stop ID     the same
    worker stop ID     rpc error: code = FailedPrecondition desc = the process is already finished

ID is one whole id: the original has no names, and no several jobs. In the original the last line has the
code Internal; that a job has finished is no fault of the server.
"""

from ..client.errors import RpcError
from ..core.errors import JobAlreadyFinished, JobNotFound
from ..core.model.job import parse_job_id


def original_line(command: str, reference: str, error: RpcError) -> str | None:
    """Return the line for an error about the job that a command was given; None: it has none."""
    try:
        job = parse_job_id(reference)
    except JobNotFound:
        return None
    commands = {
        str(JobNotFound(job)): {"query", "stream", "stop"},
        str(JobAlreadyFinished()): {"stop"},
    }
    return str(error) if command in commands.get(error.message, ()) else None
