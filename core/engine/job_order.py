"""Jobs in the order of their creation, in which lists show them and the latest of several is found."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence

from ..model.selection import Position
from .job_entry import JobEntry


class JobOrder:
    """Some jobs, sorted; a place between two of them stays valid while others come and go."""

    __slots__ = ("_jobs",)

    def __init__(self) -> None:
        self._jobs: list[JobEntry] = []

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, job: JobEntry) -> None:
        """Add a job; it is the last one, unless the wall clock was set back."""
        if not self._jobs or position(self._jobs[-1]) < position(job):
            self._jobs.append(job)
        else:
            insort(self._jobs, job, key=position)

    def discard(self, job: JobEntry) -> None:
        """Remove a job. Idempotent."""
        index = bisect_left(self._jobs, position(job), key=position)
        if self._jobs[index : index + 1] == [job]:
            del self._jobs[index]

    @property
    def newest(self) -> JobEntry | None:
        """The last job, None if there is none."""
        return self._jobs[-1] if self._jobs else None

    def latest(self, wanted: Callable[[JobEntry], bool]) -> JobEntry | None:
        """Return the last job that is wanted."""
        return next((job for job in reversed(self._jobs) if wanted(job)), None)

    def after(self, place: Position | None, most: int, *, newest_first: bool) -> Sequence[JobEntry]:
        """Return the next jobs after a place, or the first ones, in this direction."""
        jobs = self._jobs
        if newest_first:
            end = len(jobs) if place is None else bisect_left(jobs, place, key=position)
            return jobs[max(0, end - most) : end][::-1]
        start = 0 if place is None else bisect_right(jobs, place, key=position)
        return jobs[start : start + most]


def position(job: JobEntry) -> Position:
    """Return where a job is in the order: by its time of creation, then by its id."""
    return Position(job.record.created_at, job.record.id)
