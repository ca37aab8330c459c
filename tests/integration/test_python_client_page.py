"""The examples of docs/how-to/python-client.md run as they stand, print what it shows, and are typed."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from ..support.installation import Installation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "python-client.md").read_text()
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
EXAMPLES = EXAMPLE.findall(PAGE)
MAIN = """import asyncio

from worker import connect


async def main() -> None:
    async with connect() as w:
{}

asyncio.run(main())
"""


def program(example: str) -> str:
    """Return an example as a program: as it is, or as a part of `main`."""
    if example.startswith("import asyncio\n"):
        return example
    return MAIN.format(indent(example, " " * 8))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples(shared: Installation, number: int) -> None:
    """Each prints what the page shows; `...` stands for further lines."""
    example, expected = EXAMPLES[number]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program(example)],
        env=shared.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    if expected.endswith("...\n"):
        assert done.stdout.startswith(expected.removesuffix("...\n"))
    else:
        assert expected == done.stdout


def test_the_example_of_the_readme() -> None:
    """It is the first one of the page."""
    assert EXAMPLES[0][0] == EXAMPLE.findall((ROOT / "README.md").read_text())[0][0]


def test_the_examples_are_typed(tmp_path: Path) -> None:
    """A strict mypy run accepts the examples, and rejects a keyword of `start` that does not exist."""
    mypy = pytest.importorskip("mypy.api", reason="mypy is a tool of the group lint")
    files = []
    for number, (example, _) in enumerate(EXAMPLES):
        files.append(tmp_path / f"example{number}.py")
        files[-1].write_text(program(example))
    wrong = tmp_path / "wrong.py"
    wrong.write_text(program('await w.start("ls", enviroment={"A": "b"})'))
    config = ["--strict", "--config-file", str(ROOT / "pyproject.toml")]
    output, _, _ = mypy.run([*config, *map(str, files), str(wrong)])
    errors = [line for line in output.splitlines() if ": error: " in line]
    assert len(errors) == 1, output
    assert f"{wrong.name}:" in errors[0]
    assert 'Unexpected keyword argument "enviroment"' in errors[0]
