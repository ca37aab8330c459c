"""A row of the journal with values of wrong types or impossible sizes spoils no other job."""

import json
from collections.abc import Iterator, MutableMapping, MutableSequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.api import translate
from worker.api.list_pages import list_entry
from worker.core.model.ending import Cause, Channel, End, Exited, Lost, Signaled
from worker.core.model.job import JobRecord, JobState, JobStatus, new_job_id
from worker.core.model.limits import Pressure, ResourceUsage
from worker.core.testing.journal_contract import EVERY_LIMIT, EVERYTHING
from worker.linux.journal.records import record_from_text, record_to_text, spec_to_text
from worker.proto.worker import ListResponse

PRESSURE = Pressure(1.5, 2, 3.5, 4)
USAGE = ResourceUsage(1, 2, 3, 4, 5, 6, 7, 8, 9, PRESSURE, PRESSURE, PRESSURE)
ENDINGS = (Exited(3), Signaled(9), Lost("the machine restarted"))

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 1 << 31, 1 << 63, 1 << 64, 1 << 70, 1e300])
    | st.floats()
    | st.text()
    | st.just("\ud800"),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(), children, max_size=2),
    max_leaves=3,
)

Place = tuple[MutableMapping[str, Any] | MutableSequence[Any], Any]


def places(value: object) -> Iterator[Place]:
    """Yield each place in a JSON value: its container, and its key there."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@given(st.data(), st.sampled_from(ENDINGS), VALUES)
def test_a_spoiled_record_is_unreadable_or_can_be_listed(
    data: st.DataObject, ending: Exited | Signaled | Lost, value: object
) -> None:
    """Whatever a value is replaced by, the row is unreadable, or a client can read its entry of a list."""
    end = End(ending, Cause.NONE, 1, {Channel.OUTPUT: 6}, 3.5)
    record = JobRecord(
        new_job_id(),
        EVERYTHING,
        "alice",
        "r1",
        1.5,
        7,
        2.5,
        end,
        EVERY_LIMIT,
        USAGE,
        ("a warning",),
        1 << 20,
    )
    row = json.loads(record_to_text(record, spec_to_text(record.spec)))
    container, key = data.draw(st.sampled_from(list(places(row))))
    container[key] = value
    try:
        read = record_from_text(json.dumps(row).encode())
    except Exception:  # noqa: BLE001 - it is unreadable
        return
    if read.end is None:  # a job that has not ended
        return
    status = JobStatus(read, JobState.EXITED, read.end.ending, read.end.cause, read.usage, {})
    [entry] = ListResponse.parse(list_entry(status)).jobs
    translate.job_status(entry)
