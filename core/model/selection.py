"""Which jobs a list has, and where in it a page begins."""

from typing import NamedTuple

from .job import JobId


class Position(NamedTuple):
    """The place of a job in the order of creation; it needs no job to be there."""

    created_at: float
    job: JobId
