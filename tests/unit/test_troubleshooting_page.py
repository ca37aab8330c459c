"""docs/how-to/troubleshooting.md quotes messages as the code writes them."""

import ast
import os
import re
from functools import cache

import pytest

from ..support.page_tables import ROOT, rows

SYMPTOMS = [row["what you see"] for row in rows("how-to/troubleshooting.md", "remedy")]
QUOTED = [quote for symptom in SYMPTOMS for quote in re.findall("`([^`]+)`", symptom)]


@cache
def texts() -> str:
    """Return the strings of the code, a line for each, with a NUL for each variable part."""
    found = [os.strerror(number) for number in range(1, 134)]
    for package in ("api", "cgroups", "cli", "client", "core", "linux"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (
                        each.value if isinstance(each, ast.Constant) else "\x00" for each in node.values
                    )
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(text.replace("\n", " ").replace("`", "") for text in found)


@pytest.mark.parametrize("quote", QUOTED)
def test_messages(quote: str) -> None:
    """Each part of a quoted message between its variable parts is in the code."""
    if quote.startswith(("worker ", "output_")):  # a command that prints it, a setting
        return
    parts = [part.strip(" :;,()") for part in quote.removeprefix("worker: ").split("...")]
    assert [] == [part for part in parts if part not in texts()]
