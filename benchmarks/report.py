"""The report of a benchmark: a table, and the same as JSON."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which this percentage of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report(name: str, title: str, rows: Sequence[Mapping[str, str | float]]) -> None:
    """Print the rows as a table and write them to results/NAME.json."""
    columns = list(rows[0])
    texts = [[_text(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    print(f"{title} ({platform.release()}, Python {platform.python_version()})")
    for line in (columns, *texts):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(list(rows), indent=1) + "\n")


def _text(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{cell:.2f}"
