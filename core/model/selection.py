"""Which jobs a list has, and where in it a page begins."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import InvalidJobSpec
from .client_id import ClientId
from .ending import Exited
from .job import JobId, JobRecord


class Position(NamedTuple):
    """The place of a job in the order of creation; it needs no job to be there."""

    created_at: float
    job: JobId


@dataclass(frozen=True, slots=True)
class JobSelection:
    """The jobs for which everything holds that is set; by default every job.

    A job has all of ``labels``, and none of ``without_labels``: one without a label of that name is among
    them. ``failed``: it has finished, and not with exit code 0.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    without_labels: Collection[tuple[str, str]] = ()
    running: bool = False
    finished: bool = False
    failed: bool = False
    owner: ClientId | None = None

    def __post_init__(self) -> None:
        if self.running and (self.finished or self.failed):
            raise InvalidJobSpec("running", "no job is both running and finished")

    def includes(self, record: JobRecord) -> bool:
        """Whether a job is among them."""
        end = record.end
        if end is None:
            if self.finished or self.failed:
                return False
        elif self.running or (self.failed and end.ending == Exited(0)):
            return False
        if self.owner is not None and not record.belongs_to(self.owner):
            return False
        labels = record.spec.labels
        return self.labels.items() <= labels.items() and not any(
            labels.get(name) == value for name, value in self.without_labels
        )


EVERY_JOB = JobSelection()
