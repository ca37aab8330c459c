"""Record docs/session.svg, the picture in README.md, from the real program (`make picture`; needs tmux).

As root, because the first command needs a limit of memory.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .support.tmux import Terminal

PICTURE = Path(__file__).parent.parent / "docs" / "session.svg"
COLUMNS, LINES = 104, 27

MAKEFILE = """
all: ; @for name in lexer parser worker; do echo cc -c $$name.c; sleep 0.3; done
test: ; @for number in 1 2 3; do echo ok $$number; sleep 0.4; done; echo "not ok 4 - exit codes"; exit 2
"""
SESSION = (
    "worker run --memory 50M python3 -c 'x = bytearray(200 << 20)'; echo exit code $?",
    "worker start --name build --cpu 0.5 -w ~/src make",
    "worker start --name test -w ~/src make -s test",
    "worker stream build test",
    "worker start --name web --pids 100 python3 -m http.server 8000",
    "worker list",
    "worker stop web",
)


def run(command: Sequence[str]) -> str:
    """Run a command of tmux."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def record(directory: Path) -> str:
    """Return the screen after the session."""
    (directory / "src").mkdir()
    (directory / "src" / "Makefile").write_text(MAKEFILE)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(directory),
        "WORKER_HOME": str(directory / "home"),
        "WORKER_LISTEN": "127.0.0.1:0",
        "LANG": "C.UTF-8",
    }
    terminal = Terminal(
        run, str(directory / "tmux"), environment, str(directory), size=(COLUMNS, LINES), patience=60
    )
    try:
        terminal.type("worker certs init --key-type p256 && worker up")
        terminal.clear()
        for command in SESSION:
            terminal.type(command)
            terminal.wait_for_prompt()
        return terminal.drawn()
    finally:
        terminal.clear()
        terminal.type(f"worker down --jobs; while pgrep -f '[ ]{directory}/home'; do sleep 0.1; done")
        terminal.wait_for_prompt()
        terminal.close()


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        screen = record(Path(name))
    console = Console(record=True, file=StringIO(), width=COLUMNS, force_terminal=True)
    console.print(Text.from_ansi(screen.rstrip().removesuffix("$")), soft_wrap=True)
    picture = console.export_svg(title="worker")
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))  # of another site


if __name__ == "__main__":
    main()
