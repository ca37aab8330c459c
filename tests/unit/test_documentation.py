"""The documentation is correct: its program runs, its links, commands, options and settings exist."""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from worker.cli.main import COMMANDS
from worker.cli.policy_file import parse_policy
from worker.cli.settings import resolve

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

COMMAND_LINE = re.compile(r"(?:`|\$ |^    )worker ([a-z]+\b[^`\n]*)", re.MULTILINE)


def test_readme_example():
    """The program of the library in the README runs unchanged; that of the client needs a server."""
    _, program = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert ("", 0) == (done.stderr, done.returncode)
    assert "bin\n" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(page):
    """The target of every link to a file exists."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_command_is_shown_by_help():
    """Each command in the README is listed by `worker --help`."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    for name in set(re.findall(r"(?:`|\$ )worker ([a-z]+)", README)):
        assert re.search(rf"^  {name}\b", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines(page):
    """Each command line in a page names a command and options that exist."""
    commands = {each.name: each for each in COMMANDS}
    for line in COMMAND_LINE.findall(page.read_text()):
        # Two spaces separate a command line from its description; "..." stands for several names.
        ours = line.partition("  ")[0].partition(" | ")[0]
        name, *words = [word for word in ours.split() if not word.endswith("...")]
        assert name in commands, line
        command = commands[name].load()
        if isinstance(command, click.Group) and words:
            command = command.commands[words.pop(0)]
        context = click.Context(command, **command.context_settings)
        with suppress(click.BadOptionUsage):  # a text may name an option without its argument
            command.make_parser(context).parse_args(words)  # raises NoSuchOption


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_configuration_files(page, tmp_path):
    """`worker serve --config` accepts each TOML file in a page, `--policy` each that begins so."""
    for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        if text.startswith("# policy\n"):
            parse_policy(text.encode())
            continue
        file = tmp_path / "worker.toml"
        file.write_text(text)
        resolve({}, file)
