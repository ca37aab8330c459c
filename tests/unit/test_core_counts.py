"""Counts of what is in use."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.counts import Counts


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=30))
def test_what_is_released_takes_no_memory(uses: list[tuple[str, int]]) -> None:
    """Each one has what it took and did not release; one that has nothing is not there."""
    counts: Counts[str] = Counts()
    model: Counter[str] = Counter()
    for key, amount in [*uses, *((key, -amount) for key, amount in uses)]:
        if amount > 0:
            counts[key] += amount
        else:
            counts.release(key, -amount)
        model[key] += amount
        assert {each: count for each, count in model.items() if count} == dict(counts)
    assert {} == counts


def test_one_more_in_a_context() -> None:
    """It is counted until the context ends, also by an error."""
    counts: Counts[str] = Counts()
    with counts.one("a"), counts.one("a"):
        assert 2 == counts["a"]
    with pytest.raises(KeyError), counts.one("a"):
        raise KeyError
    assert {} == counts
