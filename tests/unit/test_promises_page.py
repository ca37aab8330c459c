"""Promises in docs/explanation/promises.md, and features in alternatives.md, name tests that show them."""

import pytest

from ..support.page_tables import missing_tests, rows

PROMISES = [
    row for first in ("promise", "limit") for row in rows("explanation/promises.md", "test") if first in row
]
FEATURES = list(rows("explanation/alternatives.md", "test"))


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: next(iter(row.values())))
def test_each_promise_has_a_test(row: dict[str, str]) -> None:
    """Only a loss of power is not tried out."""
    assert [] == ([] if row.get("limit") == "a power loss" else missing_tests(row["test"]))


@pytest.mark.parametrize("row", FEATURES, ids=lambda row: row[""])
def test_each_feature_has_a_test(row: dict[str, str]) -> None:
    """What worker has names its tests; what it has not says so, and names none."""
    if row["worker"].partition(",")[0] == "yes":
        assert [] == missing_tests(row["test"])
    else:
        assert ("no", "") == (row["worker"].partition(":")[0], row["test"])


def test_the_page_compares_with_all() -> None:
    """The table has a column for each of the others."""
    others = {"docker", "kubectl", "systemd-run", "nomad", "pueue"}
    assert others < FEATURES[0].keys()
