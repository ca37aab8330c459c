"""Writes to the disk that are retried until they succeed."""

from collections.abc import Callable

from worker.linux.ipc.event_loop import boottime
from worker.linux.supervisor.retried_writes import RetriedWrites

LATER = boottime() + 1e6


class Disk:
    """A disk that refuses the writes of some jobs."""

    def __init__(self, *full: str) -> None:
        self.refused = set(full)
        self.written: list[tuple[str, int]] = []

    def writing(self, job: str, number: int) -> Callable[[], None]:
        """Return a write of this job."""

        def write() -> None:
            if job in self.refused:
                raise OSError(30, "Read-only file system", f"/jobs/{job}")
            self.written.append((job, number))

        return write


def test_the_writes_of_a_job_keep_their_order() -> None:
    """A write behind a refused one waits for it; both succeed once the disk accepts them."""
    disk, writes = Disk("a"), RetriedWrites()
    writes.write("a", disk.writing("a", 1))
    writes.write("a", disk.writing("a", 2))
    assert ([], 2) == (disk.written, writes.pending)
    assert "Read-only file system" in writes.refusal
    disk.refused.clear()
    writes.retry(LATER)
    assert [("a", 1), ("a", 2)] == disk.written
    assert (0, "", None) == (writes.pending, writes.refusal, writes.retry_at)


def test_a_refused_write_delays_no_other_job() -> None:
    """The files of one job may be on another file system, or undeletable, for ever."""
    disk, writes = Disk("a"), RetriedWrites()
    writes.write("a", disk.writing("a", 1))
    writes.write("b", disk.writing("b", 1))
    writes.retry(LATER)
    assert ([("b", 1)], 1) == (disk.written, writes.pending)
    assert writes.retry_at is not None
