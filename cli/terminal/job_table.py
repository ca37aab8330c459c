"""Jobs as a table that fits the terminal: what each one is, how it ended, since when.

On a terminal ids are as short as they can be without being ambiguous in the table, and a command that
does not fit is cut; elsewhere both are whole.
"""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from signal import Signals

from ...core.model.ending import Cause, Signaled, exit_code
from ...core.model.job import JobState, JobStatus
from .console import printable

SHORTEST_ID = 8
"""Characters of an id on a terminal."""

_SHORTEST_COMMAND = 20
_CUT = "..."
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, and the text of a job in it."""

    heading: str
    text: Callable[[JobStatus], str]


def result(status: JobStatus) -> str:
    """Return the state of a job, and of one that has ended why it did: ``exited 3``, ``timed out``."""
    if status.paused:
        return "paused"
    if status.state is JobState.LOST:
        return "lost"
    if status.state is not JobState.EXITED or status.ending is None:
        return status.state.value
    if status.cause is Cause.OOM_KILLED:  # which implies the signal
        return str(status.cause)
    ended = (
        f"killed by {_signal(status.ending.number)}"
        if isinstance(status.ending, Signaled)
        else f"exited {exit_code(status.ending)}"
    )
    causes = {Cause.STOPPED: "stopped", Cause.TIMED_OUT: "timed out"}
    return f"{causes[status.cause]}, {ended}" if status.cause in causes else ended


def short_time(seconds: float) -> str:
    """Return a duration with its two largest units: ``4s``, ``1m20s``, ``2h3m``, ``5d1h``."""
    left = max(0, int(seconds))
    for (unit, name), (smaller, smaller_name) in pairwise(_UNITS):
        if left >= unit:
            rest = left % unit // smaller
            return f"{left // unit}{name}" + (f"{rest}{smaller_name}" if rest else "")
    return f"{left}s"


def ran_for(status: JobStatus, now: float) -> str:
    """Return how long a job has run, ``-`` if it has not started."""
    started, end = status.record.started_at, status.record.end
    if started is None or (end is None and status.state is JobState.LOST):
        return "-"
    until = end.ended_at if end and end.ended_at is not None else now
    return short_time(until - started)


class JobTable:
    """A table that is printed in parts; ``width`` is that of the terminal, None elsewhere.

    The first part decides about the widths of the columns.
    """

    def __init__(self, *, wide: bool = False, width: int | None = None) -> None:
        self._now = time.time()
        self._width = width
        self._id_length: int | None = None
        self._widths: list[int] = []
        self._columns = [
            Column("JOB", lambda job: str(job.record.id)[: self._id_length]),
            Column("NAME", lambda job: job.record.spec.name or "-"),
            Column("STATUS", result),
            Column("CREATED", lambda job: f"{short_time(self._now - job.record.created_at)} ago"),
            Column("RAN", lambda job: ran_for(job, self._now)),
            *(_WIDE if wide else ()),
        ]

    def lines(self, jobs: Sequence[JobStatus]) -> list[str]:
        """Return the next lines, the first time with the heading before them."""
        begins = not self._widths
        if begins and self._width is not None:
            self._id_length = len_of_ids(jobs)
        cells = [[printable(each.text(job)) for each in self._columns] + [command(job)] for job in jobs]
        if begins:
            cells.insert(0, [each.heading for each in self._columns] + ["COMMAND"])
            self._widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
        return [self._line(row) for row in cells]

    def _line(self, row: Sequence[str]) -> str:
        *cells, last = row
        if self._width is not None:
            left = max(_SHORTEST_COMMAND, self._width - sum(self._widths) - 2 * len(self._widths))
            if len(last) > left:
                last = last[: left - len(_CUT)] + _CUT
        columns = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)]
        return "  ".join([*columns, last]).rstrip()


_WIDE = (
    Column("PID", lambda job: str(job.record.pid or "-")),
    Column("OWNER", lambda job: job.record.owner or "-"),
    Column(
        "LABELS",
        lambda job: ",".join(f"{name}={value}" for name, value in job.record.spec.labels.items()) or "-",
    ),
)


def len_of_ids(jobs: Sequence[JobStatus]) -> int:
    """Return how many characters of the ids of these jobs tell them apart, at least 8."""
    ids = sorted(str(job.record.id) for job in jobs)
    return max([SHORTEST_ID, *(_common(one, two) + 1 for one, two in pairwise(ids))])


def command(status: JobStatus) -> str:
    """Return the command of a job as it would be typed in a shell."""
    return printable(shlex.join([status.record.spec.command, *status.record.spec.args]))


def _common(one: str, two: str) -> int:
    """Return the length of the longest common beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), len(one))


def _signal(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal other than the first and the last
        return f"signal {number}"
