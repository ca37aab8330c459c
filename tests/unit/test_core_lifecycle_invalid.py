"""Events that are impossible in a state."""

from collections.abc import Callable

import pytest

from worker.core import Exited
from worker.core.lifecycle import (
    Adopted,
    AllEnded,
    Event,
    InvalidTransition,
    Lifecycle,
    MainEnded,
    PauseRequested,
    ResumeRequested,
    Started,
    StopRequested,
    TimePassed,
)

from ..support.lifecycles import DRAINED, GRACE, TERM, finished, life, state_of, unstarted

EVERY_EVENT: list[Event] = [
    Started(),
    Adopted(),
    StopRequested(TERM, GRACE),
    PauseRequested(),
    ResumeRequested(),
    MainEnded(Exited(0)),
    AllEnded(),
    DRAINED,
]

INVALID: list[tuple[Callable[[], Lifecycle], Event]] = [
    *((unstarted, event) for event in EVERY_EVENT[1:]),
    *((finished, event) for event in EVERY_EVENT),
    (life, Started()),
    (life, DRAINED),
    (lambda: life(StopRequested(TERM, GRACE)), PauseRequested()),
    (lambda: life(StopRequested(TERM, GRACE)), Adopted()),
    (lambda: life(AllEnded(), MainEnded(Exited(0))), PauseRequested()),
    (lambda: life(MainEnded(Exited(0))), MainEnded(Exited(1))),
    (lambda: life(MainEnded(Exited(0))), DRAINED),
    (lambda: life(AllEnded()), DRAINED),
]


@pytest.mark.parametrize(("make", "event"), INVALID)
def test_an_invalid_transition_is_rejected(make: Callable[[], Lifecycle], event: Event) -> None:
    """It raises InvalidTransition and changes nothing."""
    job = make()
    before = state_of(job)
    with pytest.raises(InvalidTransition, match=str(job.state)):
        job.handle(event, 1.0)
    assert before == state_of(job)


def test_time_may_pass_at_any_moment() -> None:
    """A timer that fires too early or too late is no error."""
    for job in (unstarted(), life(), finished()):
        assert [] == job.handle(TimePassed(), 1000.0)
