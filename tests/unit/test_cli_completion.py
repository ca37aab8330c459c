"""Shell completion offers every command and option, and imports at most one command."""

import os
import subprocess
import sys

import click
import pytest

from worker.cli.main import COMMANDS, LazyCommand

SCRIPT = "import sys; from worker.cli.main import main; sys.argv = ['worker']; main()"


def completed(*words: str) -> list[str]:
    """Return the completions in bash for the last of these words."""
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
    """The commands are offered in the order of the overview, without the hidden ones."""
    assert [each.name for each in COMMANDS if not each.hidden] == completed("")


@pytest.mark.parametrize("lazy", COMMANDS, ids=lambda each: str(each.name))
def test_every_option_of_a_command_is_offered(lazy: LazyCommand) -> None:
    """Completion offers every option that the command itself has."""
    command = lazy.load()
    if isinstance(command, click.Group):
        assert sorted(command.commands) == sorted(completed(str(lazy.name), ""))
        return
    wanted = {
        option
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden
        for option in (*each.opts, *each.secondary_opts)
        if option.startswith("--")
    }
    assert wanted <= set(completed(str(lazy.name), "--"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["stream", "--pro"], ["--progress"]),
        (["stream", "--rec"], ["--reconnect"]),
        (["start", "--req"], ["--request-id"]),
        (["run", "--output-m"], ["--output-max"]),
        (["start", "--leftovers", ""], ["kill", "wait"]),
        (["query", "-o", ""], ["json", "wide"]),
        (["signal", "JOB", "us"], ["USR1", "USR2"]),
        (["stop", "--signal", "SIGU"], ["SIGUSR1", "SIGUSR2", "SIGURG"]),
        (["certs", "issue", "--ro"], ["--role"]),
        (["att"], ["attach"]),
        (["attach", "--int"], ["--interactive"]),
        (["start", "--int"], ["--interactive"]),
    ],
)
def test_completions(words: list[str], offered: list[str]) -> None:
    """Options are completed from a prefix, and the values of options with choices."""
    assert offered == completed(*words)
