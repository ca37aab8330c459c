"""`run -it` in a real terminal: keys, screen, size and exit codes are as in a shell on this machine."""

import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ..support.installation import Installation
from ..support.local_pty import COLUMNS, ROWS, LocalPty, on_terminal

BASH = ("bash", "--norc", "--noprofile")

STOPPABLE = """
import os, signal
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"continued\\n"))
os.write(1, b"begun\\n")
while True:
    signal.pause()
"""


SHOWS_SIZE = """
import os, signal
def show(*_):
    print(os.get_terminal_size().lines, os.get_terminal_size().columns, flush=True)
signal.signal(signal.SIGWINCH, show)
show()
while True:
    signal.pause()
"""


def shell(
    installation: Installation, *options: str, command: Sequence[str] = BASH
) -> AbstractContextManager[LocalPty]:
    """Run a shell with the prompt `ready$ `."""
    return on_terminal(installation, "run", "-it", "--env", "PS1=ready$ ", *options, *command)


def installed(program: str) -> pytest.MarkDecorator:
    """Skip a test if a program is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def test_job_control(shared: Installation, tmp_path: Path) -> None:
    """Ctrl-Z stops the foreground job of the shell, `fg` continues it, Ctrl-C interrupts it."""
    script = tmp_path / "stoppable"
    script.write_text(STOPPABLE)
    with shell(shared) as local:
        local.see(b"ready$ ")
        local.type(f"{sys.executable} {script}\r".encode())
        local.see(b"begun\r\n")
        local.type(b"\x1a")
        local.see(b"Stopped")
        local.see(b"ready$ ")
        local.type(b"fg\r")
        local.see(b"continued\r\n")
        local.type(b"\x03")
        local.see(b"KeyboardInterrupt")
        local.see(b"ready$ ")
        local.type(b"echo status $?\r")
        local.see(b"status 130\r\n")
        local.type(b"exit 7\r")
        assert 7 == local.wait()
        assert local.restored


@pytest.mark.parametrize("option", ["-it", "-t"])
def test_the_size(shared: Installation, option: str) -> None:
    """The terminal of the job has the size of the local one from the start, and follows its changes."""
    with on_terminal(shared, "run", option, sys.executable, "-c", SHOWS_SIZE) as local:
        local.see(f"{ROWS} {COLUMNS}\r".encode())
        for rows, columns in ((40, 100), (20, 60)):
            local.resize(rows, columns)
            local.see(f"{rows} {columns}\r".encode())
        local.type(b"\x03")
        assert 130 == local.wait()


@pytest.mark.parametrize(
    ("term", "options", "expected"),
    [
        ("screen-256color", [], "screen-256color"),
        ("screen-256color", ["--env", "TERM=vt100"], "vt100"),
        ("", [], "xterm"),
    ],
)
def test_the_type_of_the_terminal(
    shared: Installation, term: str, options: list[str], expected: str
) -> None:
    """TERM is that of the local environment, unless --env sets it; without one it is xterm."""
    command = ["run", "-t", *options, "sh", "-c", "echo TERM=$TERM"]
    with on_terminal(shared, *command, TERM=term) as local:
        local.see(f"TERM={expected}\r".encode())
        assert 0 == local.wait()


def test_the_screen_is_exact(shared: Installation, tmp_path: Path) -> None:
    """What the job writes in raw mode is shown byte for byte."""
    data = bytes(range(256)) * 400
    (tmp_path / "screen").write_bytes(data)
    script = f"stty raw; cat {tmp_path / 'screen'}"
    with on_terminal(shared, "run", "-it", "sh", "-c", script) as local:
        assert 0 == local.wait(), local.shown[-300:]
        assert data == local.shown


def test_all_keys_reach_the_job(shared: Installation) -> None:
    """Each byte is a key for the job, also those of Ctrl-C, Ctrl-Z, Ctrl-S and Ctrl-D."""
    keys = bytes(range(256))
    script = "stty raw -echo; printf ready; head -c 256 | od -v -An -tx1 | tr -d ' \\n'"
    with on_terminal(shared, "run", "-it", "--detach-keys", "", "sh", "-c", script) as local:
        local.see(b"ready")
        local.type(keys)
        local.see(keys.hex().encode())
        assert 0 == local.wait()


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/nonexistent"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_exit_codes(shared: Installation, command: list[str], status: int) -> None:
    """The exit status is as without a terminal, and the mode of the local terminal is restored."""
    with on_terminal(shared, "run", "-it", *command) as local:
        assert status == local.wait()
        assert local.restored


def test_a_hidden_password(shared: Installation) -> None:
    """What is typed for `read -s` is not shown, and is not shown by the local terminal either."""
    script = 'read -sp "password: " secret; echo; echo "it has ${#secret}"'
    with on_terminal(shared, "run", "-it", "bash", "-c", script) as local:
        local.see(b"password: ")
        local.type(b"hidden\r")
        assert b"hidden" not in local.see(b"it has 6\r\n")
        assert 0 == local.wait()


def test_the_prompt_of_python(shared: Installation) -> None:
    """Lines are edited by the program; Ctrl-D ends it."""
    with on_terminal(shared, "run", "-it", sys.executable, "-q", PYTHON_BASIC_REPL="1") as local:
        local.see(b">>> ")
        local.type(b"6 * 8\x7f7\r")
        local.see(b"42\r\n")
        local.see(b">>> ")
        local.type(b"\x04")
        assert 0 == local.wait()


@installed("less")
def test_less(shared: Installation, tmp_path: Path) -> None:
    """A pager shows a page of the size of the terminal, and the end on request."""
    (tmp_path / "text").write_text("".join(f"line {number}\n" for number in range(1, 1001)))
    with on_terminal(shared, "run", "-it", "less", str(tmp_path / "text"), LESS="") as local:
        local.see(f"line {ROWS - 1}\r\n".encode())
        local.type(b"G")
        local.see(b"line 1000")
        local.type(b"q")
        assert 0 == local.wait()
        assert f"line {ROWS}\r".encode() not in local.shown


@installed("vim")
def test_vim(shared: Installation, tmp_path: Path) -> None:
    """An editor gets its keys, and draws its screen again after a change of the size."""
    file = tmp_path / "file"
    with on_terminal(shared, "run", "-it", "vim", "-u", "NONE", "-n", str(file)) as local:
        local.see(b"[New")
        local.type(b"ihello\x1b")
        local.see(b"hello")
        local.resize(20, 60)
        local.see(b"hello")
        local.type(b":wq\r")
        assert 0 == local.wait()
        assert "hello\n" == file.read_text()
        assert local.restored


@installed("top")
def test_top(shared: Installation) -> None:
    """A program that shows a new screen every second ends at its key."""
    with on_terminal(shared, "run", "-it", "top", "-d", "0.2") as local:
        for _ in range(2):
            local.see(b"load average")
        local.type(b"q")
        assert 0 == local.wait()


@installed("tmux")
def test_tmux(shared: Installation, tmp_path: Path) -> None:
    """A terminal within the terminal."""
    command = [
        "tmux",
        "-u",
        "-S",
        str(tmp_path / "tmux"),
        "-f",
        "/dev/null",
        "new-session",
        f"PS1='ready$ ' {' '.join(BASH)}",
    ]
    options = ["--env", "LC_ALL=C.UTF-8"]
    with shell(shared, *options, command=command) as local:
        local.see(b"ready$ ")
        local.type(b"echo in''side\r")
        local.see(b"inside")
        local.type(b"exit\r")
        local.see(b"[exited]")
        assert 0 == local.wait()


def test_an_interrupt_discards_the_backlog(shared: Installation) -> None:
    """A terminal that is slower than the job shows the prompt after Ctrl-C, not all that waits."""
    with shell(shared) as local:
        job = _job_of(local)
        local.type(b"yes\r")
        while _written(shared, job) < 8 << 20:
            pass
        local.type(b"\x03")
        local.see(b"bytes; see worker stream ")
        local.see(b"ready$ ")
        assert len(local.shown) < 4 << 20
        local.type(b"exit\r")
        local.wait()


def _job_of(local: LocalPty) -> str:
    """Return the id of the job that a shell runs in."""
    local.see(b"ready$ ")
    local.type(b"echo $WORKER_JOB_ID\r")
    found = re.search(rb"[0-9a-f-]{36}", local.see(b"ready$ "))
    assert found is not None
    return found[0].decode()


def _written(shared: Installation, job: str) -> int:
    """Return how much output of a job is stored."""
    output = shared.query(job)["output"]
    assert isinstance(output, dict)
    return int(output["output"]["end"])


def test_a_stop_ends_an_interactive_shell(shared: Installation) -> None:
    """A stop hangs up: an interactive shell ignores SIGTERM."""
    with shell(shared) as local:
        job = _job_of(local)
        shared.run("stop", job)
        assert 129 == local.wait()


def test_erasing_a_character_of_several_bytes(shared: Installation) -> None:
    """The terminal is in UTF-8: Backspace erases a character, not a byte."""
    command = "stty -echo; echo ready; read -r x; printf %s $x | od -An -tx1"
    with on_terminal(shared, "run", "-it", "sh", "-c", command) as local:
        local.see(b"ready\r\n")
        local.type("aé\x7fb\r".encode())
        local.see(b" 61 62\r\n")


def test_typed_keys_are_erased(shared: Installation) -> None:
    """What was typed, such as a password, is not on the disk once the job has it."""
    command = "stty -echo; echo ready; read -r x; echo got it; read -r x"
    with on_terminal(shared, "run", "-it", "sh", "-c", command) as local:
        local.see(b"ready\r\n")
        local.type(b"correct horse battery\r")
        local.see(b"got it\r\n")
        [spool] = [each for each in shared.home.rglob("stdin.spool") if each.stat().st_size == 22]
        while b"horse" in spool.read_bytes():
            local.poll()


# --- with less than a terminal


def test_run_without_keys(shared: Installation, tmp_path: Path) -> None:
    """With -t alone the job has a terminal and no keys; stdout may be a file, and Ctrl-C stops the job."""
    with (tmp_path / "out").open("wb") as out:
        done = shared.run("run", "-t", "sh", "-c", "stty size; test -t 0 -a -t 1 -a -t 2 && echo yes")
        assert (0, b"0 0\r\nyes\r\n", b"") == (done.returncode, done.stdout, done.stderr)
        with on_terminal(
            shared, "run", "-t", "sh", "-c", "stty size; exec sleep 1000", stdout=out
        ) as local:
            while not (tmp_path / "out").stat().st_size:
                local.poll()
            local.type(b"\x03")
            assert 130 == local.wait()
    assert f"{ROWS} {COLUMNS}\r\n".encode() == (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-it"], "worker: stdin is not a terminal; use -i without -t to pass it, or -t without -i\n"),
        (
            ["-t", "--split-output"],
            ("worker: terminal: stdout and stderr of a terminal cannot be separate\n"),
        ),
    ],
)
def test_options_that_do_not_fit(shared: Installation, options: list[str], message: str) -> None:
    """The error names the remedy, and no job is started."""
    before = shared.worker("list", "-q")
    done = shared.run("run", *options, "true")
    assert (125, message) == (done.returncode, done.stderr.decode())
    assert before == shared.worker("list", "-q")


def test_start_opens_the_terminal(shared: Installation) -> None:
    """`start -it` ends at once, and `query` shows the terminal."""
    with on_terminal(shared, "start", "-it", "bash", "--norc") as local:
        job = local.see(b" is started").split()[1].decode()
        assert 0 == local.wait()
    assert {"rows": ROWS, "columns": COLUMNS} == shared.query(job)["terminal"]
    assert f"Terminal:  {ROWS} rows and {COLUMNS} columns" in shared.worker("query", "-o", "wide", job)
    with on_terminal(shared, "attach", "-i", job) as local:
        local.type(b"stty size; exit 5\r")
        local.see(f"{ROWS} {COLUMNS}\r\n".encode())
        assert 0 == local.wait()
    assert 5 == shared.query(job)["exit_code"]
