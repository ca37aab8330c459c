"""The first moments of the program."""

import signal
import subprocess
import sys

import pytest

INTERRUPTED_WHILE_IMPORTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupter(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "worker.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

from worker.cli.entry import main
sys.meta_path.insert(0, Interrupter())
sys.argv = ["worker", "--version"]
{before}
main()
"""


def start(before: str) -> "subprocess.CompletedProcess[bytes]":
    """Run the program, which gets a SIGINT while it imports the rest of itself."""
    script = INTERRUPTED_WHILE_IMPORTING.format(before=before)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)


def test_interrupted_while_it_is_imported() -> None:
    """It ends by the signal, as others do, and says nothing."""
    done = start(before="signal.signal(signal.SIGINT, signal.default_int_handler)")
    assert (-signal.SIGINT, b"", b"") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("handler", ["SIG_IGN", "default_int_handler"])
def test_the_signal_is_as_it_was(handler: str) -> None:
    """What was ignored stays ignored; else a command hears of Ctrl-C as Python programs do."""
    script = (
        "import signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.{handler})\n"
        "from worker.cli import entry, main\n"
        f"main.main = lambda: print(signal.getsignal(signal.SIGINT) is signal.{handler})\n"
        "entry.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert (b"True\n", b"") == (done.stdout, done.stderr)


def test_an_ignored_signal_stops_nothing() -> None:
    """A job of a shell's background is not meant by Ctrl-C."""
    done = start(before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (0, b"") == (done.returncode, done.stderr)
    assert done.stdout.startswith(b"worker ")
