"""Other users of the host: what they can open of the server's files, sockets and processes."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.core.model.execution import DEFAULT_PATH

from ..support.fixtures import Install
from ..support.installation import Installation

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")

INTRUDER = """
import json, os, socket, sys
opened = []
for path in json.loads(sys.argv[1]):
    for flags in (os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY | os.O_NONBLOCK):
        try:
            os.close(os.open(path, flags))
            opened.append(path)
        except OSError:
            pass
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        opened.append(path)
    except OSError:
        pass
print(json.dumps(opened))
"""


@pytest.fixture
def reachable(install: Install) -> Iterator[Installation]:
    """A running worker in a directory that every user can search, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="worker-reachable-") as name:
        os.chmod(name, 0o755)
        worker = install(Path(name) / "home")
        worker.worker("up")
        yield worker
        worker.down()


def exposed_below(home: Path) -> Iterator[str]:
    """Yield what others have access to, but not certificates, and not FIFOs in a private directory."""
    for path in [home, *home.rglob("*")]:
        found = path.lstat()
        private = stat.S_ISFIFO(found.st_mode) and not path.parent.stat().st_mode & 0o77
        private |= path.suffix == ".crt"
        if found.st_mode & 0o77 and not private and not stat.S_ISLNK(found.st_mode):
            yield f"{path} {stat.filemode(found.st_mode)}"


def private_files(installation: Installation) -> list[str]:
    """Return all files of a worker, and what its processes show of their own."""
    processes = (
        installation.server_pid(),
        installation.supervisor_pid(),
        installation.recorder_pid(),
        installation.zygote_pid(),
    )
    files = [installation.home, *installation.home.rglob("*")]
    for pid in processes:
        assert pid
        proc = Path("/proc") / str(pid)
        files += [proc / name for name in ("environ", "mem", "maps", "fd", "cwd", "exe", "root")]
        files += list((proc / "fd").iterdir())
    return [str(path) for path in files]


@AS_ROOT
def test_a_job_of_another_user_can_open_nothing_of_the_server(reachable: Installation) -> None:
    """Neither a file, a socket, a FIFO of another job, nor what is open in our processes."""
    python = shutil.which("python3", path=DEFAULT_PATH)
    if python is None:
        pytest.skip("there is no Python that every user can execute")
    other = reachable.start("-i", "--env", "PASSWORD=secret", "sh", "-c", "echo output; sleep 1000")
    paths = private_files(reachable)
    expected = {
        "journal.db",
        "journal.db-wal",
        "socket",
        "history",
        "stdin.fifo",
        "stdin.spool",
        "output-0",
    }
    assert expected | {"server.key"} <= {os.path.basename(path) for path in paths}
    arguments = [python, "-c", INTRUDER, json.dumps(paths)]
    assert [] == json.loads(reachable.stream(reachable.start("--user", "nobody", *arguments)))
    opened = json.loads(reachable.stream(reachable.start(*arguments)))  # the program does find what is open
    assert str(reachable.generation() / "socket") in opened
    reachable.worker("stop", "--grace", "0", other)


def test_files_are_private_whatever_the_umask_is(install: Install, tmp_path: Path) -> None:
    """With umask 000, everything is created for the owner alone."""
    worker = install(tmp_path / "home")
    loose = ["sh", "-c", 'umask 000; exec "$@"', "sh", *worker.command, "up"]
    subprocess.run(loose, env=worker.env, check=True, stdout=subprocess.DEVNULL)
    job = worker.start("-i", "sh", "-c", "echo output; sleep 1000")
    assert [] == list(exposed_below(worker.home))
    worker.worker("stop", "--grace", "0", job)


@AS_ROOT
def test_control_groups_are_readable(installation: Installation) -> None:
    """A job of another user can look up its limits, as the runtimes of Java and Go do."""
    job = installation.start("--user", "nobody", "sleep", "1000")
    groups = [*installation.parent_cgroups(), *installation.cgroups()]
    assert {0o755} == {stat.S_IMODE(path.stat().st_mode) for path in groups}
    installation.worker("stop", "--grace", "0", job)


def test_a_home_with_loose_modes_is_corrected(installation: Installation) -> None:
    """A server corrects at its start what others have access to, reports it, and doctor finds it."""
    installation.wait(installation.start("echo", "output"))
    installation.worker("down")
    for path in [installation.home, *installation.home.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    findings = json.loads(installation.worker("doctor", "-o", "json", code=None))["findings"]
    (finding,) = [each for each in findings if each["subject"] == "access"]
    assert ("warning", True) == (finding["verdict"], str(installation.home) in finding["text"])
    reported = installation.run("up").stderr.decode()
    assert reported.startswith(f"worker: others had access to {installation.home} and ")
    assert [] == list(exposed_below(installation.home))
    findings = json.loads(installation.worker("doctor", "-o", "json", code=None))["findings"]
    assert ["ok"] == [each["verdict"] for each in findings if each["subject"] == "access"]
