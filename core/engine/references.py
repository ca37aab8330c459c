"""What people type instead of a job id: a name, the beginning of an id, or ``@last``."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from uuid import UUID

from ..errors import AmbiguousJob, JobNotFound
from ..model.client_id import ClientId
from ..model.job import JobId, JobRecord, parse_job_id
from .job_entry import JobEntry, Removing
from .job_order import JobOrder, position

LAST = "@last"
"""Refers to the latest job of a client."""

FEWEST_DIGITS = 4
"""Hexadecimal digits that the beginning of an id has."""

_DIGITS = 32
_SHOWN = 4
"""Owners or ids that the error for several jobs names."""

_Exists = Callable[[JobEntry], bool]


class References:
    """Finds jobs by what refers to them; none of it examines all jobs.

    A job that is being removed is not found, nor is one that the client may not read.
    """

    def __init__(self) -> None:
        self._by_id: list[JobEntry] = []
        self._by_owner: dict[ClientId, JobOrder] = defaultdict(JobOrder)
        self._by_name: dict[str, dict[ClientId, JobOrder]] = defaultdict(lambda: defaultdict(JobOrder))
        self._running: dict[tuple[ClientId, str], JobEntry] = {}

    def add(self, job: JobEntry) -> None:
        """Add a job."""
        owner, name = owner_of(job), job.record.spec.name
        insort(self._by_id, job, key=_number)
        self._by_owner[owner].add(job)
        if name:
            self._by_name[name][owner].add(job)
            if not job.is_finished:
                self._running[owner, name] = job

    def ended(self, job: JobEntry) -> None:
        """Note that a job has ended, or is dropped. Idempotent."""
        key = owner_of(job), job.record.spec.name
        if self._running.get(key) is job:
            del self._running[key]

    def discard(self, job: JobEntry) -> None:
        """Remove a job."""
        owner, name = owner_of(job), job.record.spec.name
        self.ended(job)
        del self._by_id[self._place(_number(job))]
        _discard(self._by_owner, owner, job)
        if name:
            _discard(self._by_name[name], owner, job)
            if not self._by_name[name]:
                del self._by_name[name]

    def running(self, owner: ClientId, name: str) -> JobEntry | None:
        """Return the job of this owner with this name that has not finished; None also without a name."""
        found = (self._running.get((each, name)) for each in owner.on_record)
        return next((job for job in found if job), None)

    def resolve(self, text: str, client: ClientId, reads: Callable[[JobRecord], bool] | None) -> JobId:
        """Return the id of the job that a client refers to; see ``Worker.resolve``."""
        try:
            return parse_job_id(text)
        except JobNotFound:
            pass

        def exists(job: JobEntry) -> bool:
            return not isinstance(job.phase, Removing) and (reads is None or reads(job.record))

        own = client.on_record
        if text == LAST:
            job = _latest([self._by_owner.get(each) for each in own], exists)
        else:
            job = self._named(text, own, exists) or self._beginning(text, exists)
        if job is None:
            raise JobNotFound(text)
        return job.record.id

    def _named(self, name: str, own: Sequence[ClientId], exists: _Exists) -> JobEntry | None:
        """Return the job with a name: that of the client itself, otherwise that of the only other owner."""
        owners = self._by_name.get(name)
        if not owners:
            return None
        if job := self._of(name, own, owners, exists):
            return job
        found = {each: job for each in owners if (job := self._of(name, [each], owners, exists))}
        if len(found) > 1:
            raise AmbiguousJob(
                f"jobs of several owners are named {name}: {_list(_names(found))}; use an id"
            )
        return next(iter(found.values()), None)

    def _of(
        self, name: str, own: Sequence[ClientId], owners: dict[ClientId, JobOrder], exists: _Exists
    ) -> JobEntry | None:
        """Return the job with a name of one owner: the one that has not finished, otherwise the latest."""
        for each in own:
            job = self._running.get((each, name))
            if job and exists(job):
                return job
        return _latest([owners.get(each) for each in own], exists)

    def _beginning(self, text: str, exists: _Exists) -> JobEntry | None:
        """Return the job whose id begins with this text."""
        digits = text.replace("-", "")
        if not FEWEST_DIGITS <= len(digits) < _DIGITS or not set(digits) <= set("0123456789abcdefABCDEF"):
            return None
        first = int(digits.ljust(_DIGITS, "0"), 16)
        if not str(UUID(int=first)).startswith(text.lower()):  # the hyphens are not where an id has them
            return None
        found = [*islice(self._between(first, 1 << 4 * (_DIGITS - len(digits)), exists), _SHOWN + 1)]
        if len(found) > 1:
            ids = [str(job.record.id) for job in found]
            raise AmbiguousJob(f"several job ids begin with {text}: {_list(ids)}; use more digits")
        return found[0] if found else None

    def _between(self, first: int, number: int, exists: _Exists) -> Iterator[JobEntry]:
        return filter(exists, self._by_id[self._place(first) : self._place(first + number)])

    def _place(self, number: int) -> int:
        return bisect_left(self._by_id, number, key=_number)


def owner_of(job: JobEntry) -> ClientId:
    """Return whose job it is."""
    return ClientId(job.record.owner, job.record.issuer)


def _number(job: JobEntry) -> int:
    """Return the id as a number, which is compared faster."""
    return job.record.id.int


def _latest(orders: Sequence[JobOrder | None], exists: _Exists) -> JobEntry | None:
    found = [job for order in orders if order is not None and (job := order.latest(exists))]
    return max(found, key=position, default=None)


def _discard(orders: dict[ClientId, JobOrder], owner: ClientId, job: JobEntry) -> None:
    orders[owner].discard(job)
    if not orders[owner]:
        del orders[owner]


def _names(owners: dict[ClientId, JobEntry]) -> list[str]:
    """Return owners as texts, with the issuer where names alone do not tell them apart."""
    names = [name for name, _ in owners]
    return [
        f"{name!r} ({issuer or 'no issuer'})" if names.count(name) > 1 else repr(name)
        for name, issuer in owners
    ]


def _list(texts: Sequence[str]) -> str:
    more = " and others" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
