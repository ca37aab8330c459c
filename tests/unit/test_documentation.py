"""What the documentation shows is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_readme_example():
    """The program in the README runs as it stands."""
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert ("", 0) == (done.stderr, done.returncode)
    assert "bin\n" in done.stdout


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda path: path.name
)
def test_links(page):
    """Every link to a file leads somewhere."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_command_is_shown_by_help():
    """Each command that the README names exists."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    for name in set(re.findall(r"(?:`|\$ )worker ([a-z]+)", README)):
        assert re.search(rf"^  {name}\b", done.stdout, re.MULTILINE), name
