"""Plans of jobs that never run."""

from worker.core.model.channel import Channel
from worker.core.model.job import Leftovers
from worker.core.ports import Placement
from worker.linux.ipc.encoding import SpawnPlan


def plan() -> SpawnPlan:
    """Return the plan of a job with one channel and without cgroups."""
    return SpawnPlan(
        argv=("make",),
        env={},
        working_directory="/",
        uid=None,
        gid=None,
        groups=(),
        placement=Placement(),
        channels=(Channel.OUTPUT,),
        segment_size=1 << 20,
        timeout=None,
        grace=10.0,
        leftovers=Leftovers.KILL,
    )
