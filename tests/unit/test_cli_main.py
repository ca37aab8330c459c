"""The command line as a whole: imports, usage errors, exit statuses."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from worker.cli.main import COMMANDS, run
from worker.cli.main import worker as group
from worker.cli.terminal.console import Failure, PipeClosed

HEAVY = {"asyncio", "ssl", "grpclib", "betterproto2", "cryptography", "tomllib", "sqlite3", "cattrs"}


def worker(*arguments: str | bytes, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "worker.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def modules(*arguments: str) -> set[str]:
    """Return the modules that a command imports."""
    script = (
        "import sys; from worker.cli.main import run; run(sys.argv[1:]); "
        "print(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return set(found.stderr.split())


def test_help_loads_no_command() -> None:
    """The overview imports no command."""
    loaded = modules("--help")
    assert not HEAVY & loaded
    assert [
        "worker.cli",
        "worker.cli.exit_status",
        "worker.cli.main",
        "worker.cli.terminal",
        "worker.cli.terminal.console",
    ] == sorted(name for name in loaded if name.startswith("worker.cli"))


@pytest.mark.parametrize(
    "command", ["start", "query", "stop", "list", "wait", "update", "stream", "run", "attach"]
)
def test_a_client_loads_nothing_of_the_server(command: str) -> None:
    """A client command imports no cryptography, server settings, database or adapter."""
    loaded = modules(command, "--help")
    assert not {"cryptography", "tomllib", "sqlite3", "cattrs", "worker.core.worker"} & loaded
    assert not {name for name in loaded if name.startswith(("worker.cgroups", "worker.linux"))}


def test_up_loads_no_grpc() -> None:
    """`up` starts the server as another process, and imports none of it."""
    assert not {"asyncio", "grpclib", "betterproto2", "cryptography"} & modules("up", "--help")


@pytest.mark.parametrize("arguments", [("doctor", "--help"), ("policy", "check", "--help")])
def test_commands_that_start_no_job_load_no_engine(arguments: tuple[str, ...]) -> None:
    """They do not wait for the imports of a server."""
    assert not {"worker.core.worker", "cryptography"} & modules(*arguments)


def test_summaries_are_those_of_the_commands() -> None:
    """The summary in the overview is the first line of the command's own help."""
    for lazy in COMMANDS:
        command = lazy.load()
        assert lazy.help == (command.help or "").partition("\n")[0], lazy.name
        assert lazy.name == command.name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nonesuch"], "there is no `worker nonesuch`: `worker --help` lists the commands"),
        (["start"], "Missing argument 'CMD'."),
        (["start", "--memroy", "1G", "ls"], "No such option"),
        (
            ["start", "--memry", "1G", "ls"],
            "No such option '--memry'. (Did you mean one of: '--memory', '--memory-high'?)",
        ),
        (
            ["invite", "bob", "--listen", "127.0.0.1:0"],
            "Missing option '--role'. Choose from: reader, writer",
        ),
        (["start", "--memory", "10X", "ls"], "--memory 10X: unknown unit 'X'; use K, M, G or T"),
        (["run", "--io-write", "4M", "ls"], "--io-write 4M: write DEVICE=LIMIT, as in /dev/vda=1M"),
        (["update", "x"], "no limit to change is given; name one, such as --memory 1G"),
        (["update", "--cpu-weight", "high", "x"], "--cpu-weight high: not a whole number; use 1 to 10000"),
        (["certs", "issue", "x"], "use either --role for a client, or --server"),
        (["certs", "issue", "--role", "reader", "--host", "h", "x"], "use either --role for a client"),
        (["serve", "--max-memory", "1Q"], "--max-memory 1Q: unknown unit 'Q'"),
        (["start", "--env", "=x", "ls"], "--env =x: write NAME=VALUE or NAME"),
        (
            ["start", "--env", "WORKER_NO_SUCH", "ls"],
            "--env WORKER_NO_SUCH: the variable WORKER_NO_SUCH is not set",
        ),
        (["stop"], "name a job, or use --label"),
        (["stop", "--label", "a=b", "x"], "use JOB or --label, not both"),
        (["list", "--running", "--failed"], "use only one of --running and --failed"),
        (["stop", "--signal", "SIGNOPE", "x"], "--signal SIGNOPE: unknown signal"),
        (["query", "--server", "nowhere", "x"], "--server nowhere: write HOST:PORT, as in 127.0.0.1:7443"),
        (
            ["stream", "--tail", "1", "--offset", "0", "x"],
            "use only one of --offset, --tail and --tail-bytes",
        ),
        (["stream", "--offset", str(1 << 62), "x"], f"--offset {1 << 62}: too large"),
        (["attach"], "Missing argument 'JOB'."),
        (["stream", "--stdout", "--stderr", "x"], "use only one of --stdout and --stderr"),
    ],
)
def test_usage_errors(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is explained on stderr; the exit status is 2, of `run` 125: 2 may be that of the job."""
    assert (125 if arguments[0] == "run" else 2) == run(arguments)
    out, err = capsys.readouterr()
    assert "" == out
    assert reason in err


def test_undecodable_arguments_are_rejected() -> None:
    """An argument that is not valid UTF-8 is rejected, and the error shows its bytes."""
    result = worker("start", "cat", b"\xff.txt", LC_ALL="C.UTF-8")
    assert 2 == result.returncode
    assert "argument b'\\xff.txt' is not valid utf-8" in result.stderr


@pytest.mark.parametrize("arguments", [["query", "x"], ["start", "ls"], ["stream", "x"], ["list"]])
def test_missing_keys_are_named(tmp_path: Path, arguments: list[str]) -> None:
    """Without keys, the error has the path where they were searched, and the remedy."""
    result = worker(*arguments, WORKER_HOME=str(tmp_path))
    assert (1, "") == (result.returncode, result.stdout)
    assert f"{tmp_path}/pki/writer.key" in result.stderr
    assert "`worker up`" in result.stderr
    assert 1 == result.stderr.count("\n")


def test_run_exits_with_125_if_worker_fails(tmp_path: Path) -> None:
    """The exit status distinguishes a failure of worker from one of the job."""
    assert 125 == worker("run", "ls", WORKER_HOME=str(tmp_path)).returncode


def test_an_invalid_spec_is_reported_as_by_the_server() -> None:
    """The core checks values that can be parsed, and its error is a sentence too."""
    result = worker("start", "")
    assert (1, "worker: command: is empty\n") == (
        result.returncode,
        result.stderr,
    )


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Failure("no way", 125), 125, "worker: no way\n"),
        (PipeClosed(), 141, ""),
        (click.exceptions.Abort(), 130, ""),
        (PermissionError(13, "Permission denied", "/x"), 1, "worker: /x: Permission denied\n"),
        (KeyError("x"), 1, "worker: internal error, please report it: KeyError: 'x' (/"),
    ],
)
def test_every_exception_becomes_a_line_and_a_status(
    error: Exception,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No exception reaches the user as a traceback."""

    @click.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setitem(group.commands, "fail", fail)
    assert status == run(["fail"])
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == (1 if message else 0)


def test_a_full_disk_is_reported() -> None:
    """If an answer cannot be written, the command fails with the reason."""
    script = (
        "import sys, click\n"
        "from worker.cli import main\nfrom worker.cli.terminal import console\n"
        "main.worker.add_command(click.Command('speak', callback=lambda: console.say('hello')))\n"
        "main.main()\n"
    )
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-P", "-c", script, "speak"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (1, "worker: cannot write to stdout: No space left on device\n") == (
        result.returncode,
        result.stderr,
    )


def test_buffered_output_is_flushed_or_an_error_is_reported() -> None:
    """Although the process skips interpreter teardown, no output is lost without an error."""
    script = (
        "import sys, click\n"
        "from worker.cli import main\n"
        "main.worker.add_command(click.Command('speak', callback=lambda: print('hello')))\n"
        "main.main()\n"
    )
    command = [sys.executable, "-P", "-c", script, "speak"]
    assert "hello\n" == subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (1, "worker: No space left on device\n") == (result.returncode, result.stderr)
