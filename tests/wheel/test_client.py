"""The wheel of the client: it works on systems other than Linux, and has nothing of the server."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ..support.wheels import Build, Environment, WheelInstallation

HERE = Path(__file__).parent
SERVER_COMMANDS = ("debug", "doctor", "down", "serve", "up")


class Client(Environment):
    """The client on another system: a macOS without what makes it different from Linux otherwise."""

    def __init__(self, home: Path, wheel: Path) -> None:
        super().__init__(home, wheel)
        shutil.copy(HERE / "other_system.py", self.packages)
        (self.packages / "other_system.pth").write_text("import other_system\n")
        self.home = home / "worker"

    def call(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a `worker` command."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        return subprocess.run(
            [self.worker, *arguments],
            env={**inherited, "WORKER_HOME": str(self.home), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def elsewhere(client: Build, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The client on another system."""
    return Client(tmp_path_factory.mktemp("elsewhere"), client.file)


@pytest.fixture(scope="module")
def connected(elsewhere: Client, server: WheelInstallation) -> Client:
    """The client on another system, with what it needs to call the server."""
    elsewhere.home.mkdir()
    shutil.copytree(server.home / "pki", elsewhere.home / "pki")
    shutil.copy(server.home / "address", elsewhere.home)
    return elsewhere


def test_contents(client: Build, native: Build) -> None:
    """Any system and Python may install it; it is a part of the other wheel, without server and zygote."""
    assert ("py3", "none", "any") == client.tag
    assert [] == [name for name in client.names if name.startswith(("worker/linux/", "worker/cgroups/"))]
    assert {name for name in client.names if name.startswith("worker/")} < set(native.names)
    (program,) = (name for name in native.names if name.endswith("/zygote"))
    assert program not in client.names


def test_every_module_can_be_imported(elsewhere: Client, client: Build) -> None:
    """No module of the wheel imports, while it is imported, anything that only Linux has."""
    files = [name for name in client.names if name.startswith("worker/") and name.endswith(".py")]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files]
    program = """
import importlib, os, platform, select, sys
assert not hasattr(select, "epoll") and not hasattr(os, "splice") and platform.system() == "Darwin"
for name in sys.argv[1:]:
    importlib.import_module(name)
print(len(sys.argv) - 1)
"""
    done = elsewhere.run("-c", program, *modules)
    assert f"{len(modules)}\n" == done.stdout, done.stderr


def test_no_function_uses_what_only_linux_has(client: Build, tmp_path: Path) -> None:
    """No code of the wheel uses names of the standard library that macOS does not have."""
    pytest.importorskip("mypy", reason="mypy, of the group `lint`, knows the names")
    with zipfile.ZipFile(client.file) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-m", "mypy", "--platform", "darwin", "--no-site-packages"]
    options = ["--config-file", os.devnull, "--check-untyped-defs", "--ignore-missing-imports"]
    done = subprocess.run(
        [*command, *options, "--package", "worker"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "source files" in done.stdout, done.stdout + done.stderr
    assert [] == [
        line for line in done.stdout.splitlines() if "has no attribute" in line and "odule" in line
    ]


def test_help_shows_the_commands_of_a_client(elsewhere: Client) -> None:
    """`worker --help` lists each command that is there."""
    shown = elsewhere.call("--help").stdout.partition("Jobs:")[2]
    names = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert {"start", "run", "stream", "query", "stop", "list", "certs", "join"} <= set(names)
    assert set(names).isdisjoint(SERVER_COMMANDS)


@pytest.mark.parametrize("name", SERVER_COMMANDS)
def test_a_command_of_the_server(elsewhere: Client, name: str) -> None:
    """A command that the client does not have says so, and what to install."""
    done = elsewhere.call(name)
    assert 1 == done.returncode
    assert done.stderr.startswith(
        f"worker: `worker {name}` is not installed: this is the wheel of the client"
    )
    assert "no server and no zygote" in done.stderr
    assert 1 == done.stderr.count("\n")


def test_jobs_on_another_machine(connected: Client) -> None:
    """Starting, following, querying and stopping jobs of a server works, also into a pipe."""
    started = connected.call("start", "sh", "-c", "seq 20000; exit 3")
    assert 0 == started.returncode, started.stderr
    job = started.stdout.split()[1]
    streamed = connected.call("stream", job)
    assert "".join(f"{number}\n" for number in range(1, 20001)) == streamed.stdout, streamed.stderr
    assert "3\n" == connected.call("wait", job).stdout
    queried = connected.call("query", job)
    assert (0, True) == (queried.returncode, "exited" in queried.stdout.lower()), queried
    run = connected.call("run", "sh", "-c", "echo out; echo err >&2; exit 4")
    assert (4, "out\nerr\n") == (run.returncode, run.stdout + run.stderr)
    endless = connected.call("start", "sleep", "inf").stdout.split()[1]
    assert 0 == connected.call("stop", endless).returncode
    assert job in connected.call("list").stdout


def test_the_reader_of_a_pipe_is_slow(connected: Client) -> None:
    """A stream into a pipe waits until there is room, and ends when the reader closes the pipe."""
    job = connected.call("start", "sh", "-c", "seq 100000; sleep inf").stdout.split()[1]
    with subprocess.Popen(
        [connected.worker, "stream", job],
        env={**os.environ, "WORKER_HOME": str(connected.home)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert b"100000\n" in iter(process.stdout.readline, b"")
        process.stdout.close()
        assert 141 == process.wait(60)
    assert 0 == connected.call("stop", job).returncode


def test_certificates(elsewhere: Client, tmp_path: Path) -> None:
    """A client can create keys and certificates for a server."""
    made = elsewhere.call("certs", "init", "--key-type", "p256", WORKER_HOME=str(tmp_path / "home"))
    assert 0 == made.returncode, made.stderr
    assert (tmp_path / "home" / "pki" / "server.crt").exists()
