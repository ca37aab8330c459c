"""The tables of a page, and the tests that their cells name."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_NAMED = re.compile(r"`(test_\w+\.py)(?:::(test_\w+))?`")

TESTS = {
    f"{path.name}::{name}"
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in ["", *re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)]
}
"""Every test as FILE::test, and each file as FILE::."""


def rows(page: str, last: str) -> Iterator[dict[str, str]]:
    """Yield the rows of those tables of a page of docs/ whose last column is this one, by column."""
    for table in (ROOT / "docs" / page).read_text().split("\n\n"):
        header, *lines = [_cells(line) for line in table.splitlines() if line.startswith("|")] or [[""]]
        if header[-1] == last:
            yield from (dict(zip(header, cells, strict=True)) for cells in lines[1:])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]


def missing_tests(cell: str) -> list[str]:
    """Return what a cell names that is no test; a cell that names none is wrong too."""
    wrong = [each for each in cell.split(", ") if not _NAMED.fullmatch(each)]
    return wrong + [
        f"{file}::{name}" for file, name in _NAMED.findall(cell) if f"{file}::{name}" not in TESTS
    ]
