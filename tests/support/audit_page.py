"""The tables of docs/how-to/audit.md, so that tests can compare them with what a server records."""

from collections.abc import Iterable, Mapping
from pathlib import Path

PAGE = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "audit.md").read_text()


def rows(heading: str, page: str = PAGE) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    section = page.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


FIELDS = {event.strip("`"): {"time", "event", *fields.split(", ")} for event, _, fields in rows("Events")}
"""The fields of each event."""


def assert_documented(records: Iterable[Mapping[str, object]]) -> None:
    """Assert that each record has only the fields that the page names for its event."""
    for record in records:
        assert set() == record.keys() - FIELDS[str(record["event"])], record
