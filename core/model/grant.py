"""What a start gets besides what it requests, as the policy decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .execution import Execution
from .limits import LimitBounds


@dataclass(frozen=True, slots=True)
class RunningJobs:
    """How many jobs an owner may have running at once; ``source`` names what says so."""

    most: int
    source: str


@dataclass(frozen=True, slots=True)
class Grant:
    """``limits`` apply together with those of the Worker, and the maxima of both."""

    execution: Execution | None = None
    limits: LimitBounds = field(default_factory=LimitBounds)
    quotas: Sequence[RunningJobs] = ()


NO_GRANT = Grant()
"""Without a policy: nothing else than what is requested."""
