"""How many jobs may run at once. Without asyncio: `worker up` reads the settings, too."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class JobBounds:
    """How many jobs may run at once, in total and of one owner: name and issuer of a client.

    ``max_job_memory``: bytes of commands, environments and labels of jobs that run or have ended lately.
    """

    max_jobs: float = inf
    max_jobs_per_client: float = inf
    max_job_memory: float = inf
    max_job_memory_per_client: float = inf
