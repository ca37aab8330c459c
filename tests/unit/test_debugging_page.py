"""docs/how-to/debugging.md quotes steps, log lines and reasons: each of them is in the code."""

import ast
import re
from pathlib import Path

import pytest

from worker.core.steps import Step

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "debugging.md").read_text()


def rows(heading: str) -> list[str]:
    """Return the first column of the table below a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line.split("|")[1].strip() for line in lines[1:]]


def texts() -> list[str]:
    """Return every string in the code of linux/ and core/, the constant parts of f-strings included."""
    paths = [*ROOT.glob("linux/**/*.py"), *ROOT.glob("core/**/*.py")]
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_steps() -> None:
    """The table names steps that exist."""
    named = {step for row in rows("A job is stuck in STARTING") for step in re.findall("`([a-z-]+)`", row)}
    assert named
    assert set(Step) >= named


@pytest.mark.parametrize("reason", rows("A job is LOST"))
def test_reasons(reason: str) -> None:
    """A user finds the reason that `worker query` prints."""
    assert any(reason in text for text in texts())


@pytest.mark.parametrize(
    "line", ["output cannot be recorded", "the recorder has died", "no supervisor is available"]
)
def test_log_lines(line: str) -> None:
    """The log lines that the page quotes are written by the code."""
    assert f'"{line}"' in " ".join(PAGE.split())
    assert any(line in text for text in texts())
