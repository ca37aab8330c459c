"""Plans of jobs that never run."""

from worker.core import Channel, JobSpec, RecordedFifo
from worker.linux.ipc.encoding import SpawnPlan


def plan() -> SpawnPlan:
    """Return the plan of a job with one channel and without cgroups."""
    sink = RecordedFifo("/nonexistent/output.fifo", "/nonexistent", 1 << 20)
    return SpawnPlan(JobSpec("make"), sinks={Channel.OUTPUT: sink})
