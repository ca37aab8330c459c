"""docs/how-to/standard-streams.md states what worker does: each row names its test."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "standard-streams.md").read_text()
INTEGRATION = ROOT / "tests" / "integration"


def rows() -> list[str]:
    """Return the last column of the tables whose last column is the test."""
    tables = [table for table in PAGE.split("\n\n") if table.partition("\n")[0].endswith("| test |")]
    return [line.split("|")[-2].strip() for table in tables for line in table.strip().splitlines()[2:]]


def integration_tests(file: str) -> set[str]:
    """Return the names of the tests in a file of the integration tests."""
    tree = ast.parse((INTEGRATION / file).read_text())
    functions = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {each.name for each in functions if each.name.startswith("test_")}


def test_each_row_has_a_test() -> None:
    """The last column of a row is the name of a test that exists."""
    assert rows()
    for row in rows():
        named = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        assert named[2] in integration_tests(named[1]), row


def test_each_test_has_a_row() -> None:
    """The tests that were written for the page are in its tables."""
    file = "test_standard_streams.py"
    assert {f"`{file}::{name}`" for name in integration_tests(file)} <= set(rows())
