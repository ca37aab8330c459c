"""The entry point of the program, before its modules are imported."""

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
    """Run the program; it gets a SIGINT while it imports its modules."""
    script = INTERRUPTED_WHILE_IMPORTING.format(before=before)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)


def test_interrupted_during_imports() -> None:
    """The signal terminates the program without a message, as it does other programs."""
    done = start(before="signal.signal(signal.SIGINT, signal.default_int_handler)")
    assert (-signal.SIGINT, b"", b"") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("handler", ["SIG_IGN", "default_int_handler"])
def test_the_signal_disposition_is_restored(handler: str) -> None:
    """An ignored SIGINT stays ignored; otherwise Python's handler is installed again."""
    script = (
        "import signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.{handler})\n"
        "from worker.cli import entry, main\n"
        f"main.main = lambda: print(signal.getsignal(signal.SIGINT) is signal.{handler})\n"
        "entry.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert (b"True\n", b"") == (done.stdout, done.stderr)


def test_an_ignored_signal_has_no_effect() -> None:
    """Ctrl-C does not end a background job of a shell."""
    done = start(before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (0, b"") == (done.returncode, done.stderr)
    assert done.stdout.startswith(b"worker ")


@pytest.mark.parametrize("arguments", [["list"], ["list", "-o", "json"], ["stream", "x"]], ids=" ".join)
@pytest.mark.parametrize("missing", ["_ssl", "click", "worker.client.client"])
def test_a_broken_installation_is_one_line(arguments: list[str], missing: str) -> None:
    """A module that cannot be loaded, as without _ssl, is named, without a traceback."""
    script = f"import sys; sys.modules[{missing!r}] = None; from worker.cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert 1 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert "a part of this installation cannot be loaded" in done.stderr
    assert missing in done.stderr
