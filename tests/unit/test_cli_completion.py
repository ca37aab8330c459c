"""Shell completion: it knows every command and option there is, without importing more than one command."""

import os
import subprocess
import sys

import click
import pytest

from worker.cli.main import COMMANDS

SCRIPT = "import sys; from worker.cli.main import main; sys.argv = ['worker']; main()"


def completed(*words: str) -> list[str]:
    """Return what bash would offer for the last of these words."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT],
        env=os.environ
        | {
            "_WORKER_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("worker", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_every_command_is_offered() -> None:
    """In the order of the overview."""
    assert [each.name for each in COMMANDS] == completed("")


@pytest.mark.parametrize("deferred", COMMANDS, ids=lambda each: str(each.name))
def test_every_option_of_a_command_is_offered(deferred: click.Command) -> None:
    """Those of today, whatever they are: they are the command's own."""
    command = deferred.load()  # type: ignore[attr-defined]
    if isinstance(command, click.Group):
        assert sorted(command.commands) == sorted(completed(str(deferred.name), ""))
        return
    wanted = {
        option
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden
        for option in (*each.opts, *each.secondary_opts)
        if option.startswith("--")
    }
    assert wanted <= set(completed(str(deferred.name), "--"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["stream", "--pro"], ["--progress"]),
        (["stream", "--rec"], ["--reconnect"]),
        (["start", "--req"], ["--request-id"]),
        (["run", "--output-m"], ["--output-max"]),
        (["start", "--leftovers", ""], ["kill", "wait"]),
        (["query", "-o", ""], ["json", "wide"]),
        (["certs", "issue", "--ro"], ["--role"]),
    ],
)
def test_what_is_offered(words: list[str], offered: list[str]) -> None:
    """Options by their beginning, and the values of those that have a list of them."""
    assert offered == completed(*words)
