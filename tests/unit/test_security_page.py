"""The table of threats in docs/explanation/security.md names settings and tests that exist."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from worker.api.bounds import Bounds
from worker.cli.bound_settings import BOUND_SETTINGS

from ..support.page_tables import missing_tests

ROOT = Path(__file__).parent.parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "explanation" / "security.md").read_text().splitlines()
    if line.count("|") == 5 and not line.startswith(("| threat", "|---"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_threat_has_a_test(row: list[str]) -> None:
    """The last column names a file or a test, and only such that exist."""
    assert [] == missing_tests(row[3])


def test_every_bound_is_in_the_table() -> None:
    """Settings for keepalive are not bounds."""
    named = set(re.findall(r"`(\w+)` \(", " ".join(row[2] for row in ROWS)))
    assert {each.name for each in fields(Bounds)} - {"keepalive_time", "keepalive_timeout"} <= named
    assert set(BOUND_SETTINGS) == {each.name for each in fields(Bounds)}
