"""How many jobs may run at once. Without asyncio: `worker up` reads the settings, too."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class JobBounds:
    """How many jobs may run at once, in total and of one owner: name and issuer of a client."""

    max_jobs: float = inf
    max_jobs_per_client: float = inf
