"""A worker as users install it: a WORKER_HOME and the `worker` command."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.api.tls import client_context
from worker.cgroups.plugins import default_parent
from worker.cgroups.survey import worker_systemd_scopes
from worker.client.client import Client
from worker.client.connection import Connection
from worker.linux.kernel.locks import holder_of
from worker.linux.state.code_digest import this_generation

from .waiting import PATIENCE


class Installation:
    """A WORKER_HOME and the `worker` command that uses it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.command = [sys.executable, "-m", "worker.cli.main"]
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WORKER_")},
            "WORKER_HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),  # no context of this user
            "WORKER_LISTEN": "127.0.0.1:0",
            "WORKER_RESERVE": "64K",  # pytest keeps many homes
        }

    def worker(self, *arguments: str, code: int | None = 0, timeout: float = PATIENCE) -> str:
        """Run a `worker` command and return its output; assert its exit status, unless `code` is None."""
        done = self.run(*arguments, timeout=timeout)
        assert code is None or code == done.returncode, (done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def run(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[bytes]:
        """Run a `worker` command and return its output and exit status."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=timeout,
        )

    def start(self, *command: str) -> str:
        """Start a job and return its id."""
        line = self.worker("start", *command)
        assert line.startswith("Job ")
        assert line.endswith(" is started\n")
        return line.split()[1]

    def wait(self, job: str) -> dict[str, object]:
        """Wait until a job has finished, and return its status."""
        self.worker("wait", job, code=None)
        return self.query(job)

    def query(self, job: str) -> dict[str, object]:
        """Return the current status of a job."""
        facts = json.loads(self.worker("query", "-o", "json", job))
        assert isinstance(facts, dict)
        return facts

    def stream(self, job: str) -> bytes:
        """Follow a job to its end, and return all of its output."""
        done = self.run("stream", job)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stream_now(self, job: str) -> bytes:
        """Return the output that is recorded so far."""
        done = self.run("stream", "--no-follow", job)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, **options: Any) -> Client:
        """Return a client with the writer's certificate, which by default repeats no call."""
        return Client(self.connection, **{"patience": 0, **options})

    def connection(self) -> Connection:
        """Return a connection with the writer's certificate."""
        host, port = (self.home / "address").read_text().strip().rsplit(":", 1)
        pki = self.home / "pki"
        context = client_context(ca=pki / "ca.crt", certificate=pki / "writer.crt", key=pki / "writer.key")
        return Connection(host, int(port), context)

    def server_pid(self) -> int:
        """Return the pid that holds the server's lock, or 0."""
        return _holder(self.home / "server.lock")

    def supervisor_pid(self) -> int:
        """Return the pid that holds the supervisor's lock, or 0."""
        return _holder(self.generation() / "lock")

    def recorder_pid(self) -> int:
        """Return the pid that holds the recorder's lock, or 0."""
        return _holder(self.generation() / "recorder.lock")

    def zygote_pid(self) -> int:
        """Return the pid that holds the zygote's lock, or 0."""
        return _holder(self.generation() / "zygote.lock")

    def generation(self) -> Path:
        """Return the directory of the supervisor of this generation."""
        return self.home / "supervisor" / this_generation()

    def kill(self, pid: int) -> None:
        """Send SIGKILL to one of the worker's processes, and wait until it has ended."""
        assert pid
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self.await_pidfd(pidfd)

    def down(self) -> None:
        """Stop server and jobs, and wait until the supervisor and the recorder have ended."""
        if not (self.home / "server.lock").exists():  # no server was ever started
            return
        if not self.server_pid():  # a test has killed the server; only a server removes what it left
            self.worker("up", code=None)
        self.worker("down", "--jobs", code=None)
        for pid in (self.supervisor_pid(), self.recorder_pid(), self.zygote_pid()):
            try:
                pidfd = os.pidfd_open(pid) if pid else None
            except ProcessLookupError:
                continue
            if pidfd is not None:
                self.await_pidfd(pidfd)

    def cgroups(self) -> list[Path]:
        """Return the existing cgroups of this worker's jobs."""
        return [path for parent in self.parent_cgroups() for path in parent.iterdir() if path.is_dir()]

    def parent_cgroups(self) -> list[Path]:
        """Return this worker's parent cgroups: one per v1 hierarchy, and one on v2."""
        name, root = default_parent(self.home), Path("/sys/fs/cgroup")
        bases = [root, *root.glob("*/"), *worker_systemd_scopes(root)]
        return [base / name for base in bases if (base / name).is_dir()]

    def await_pidfd(self, pidfd: int) -> None:
        """Wait until a process has ended, and close its pidfd."""
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(PATIENCE * 1000)
        os.close(pidfd)
        assert ended, "a process of the worker does not end"


def create_installation(home: Path, pki: Path) -> Installation:
    """Create an installation with a copy of these certificates; nothing is started."""
    home.mkdir(mode=0o700, exist_ok=True)
    for keys in (pki, pki.parent / "ca"):
        shutil.copytree(keys, home / keys.name)
    return Installation(home)


@contextmanager
def installing(pki: Path) -> Iterator[Callable[[Path], Installation]]:
    """Yield a function that creates installations; at the end stop them, and check that nothing is left."""
    installations = []

    def create(home: Path) -> Installation:
        installations.append(create_installation(home, pki))
        return installations[-1]

    yield create
    for installation in installations:
        installation.down()
        assert_nothing_left(installation)


def assert_nothing_left(installation: Installation) -> None:
    """Assert that no process, cgroup, socket or FIFO of a worker is left."""
    home = os.fsencode(installation.home)
    left = []
    for entry in os.listdir("/proc"):
        try:
            words = (
                Path("/proc", entry, "cmdline").read_bytes() + Path("/proc", entry, "environ").read_bytes()
            )
        except (OSError, ValueError):
            continue
        if home in words and entry.isdigit() and int(entry) != os.getpid():
            left.append((entry, words[:200]))
    assert [] == left
    assert [] == installation.parent_cgroups()
    special = [path for path in installation.home.rglob("*") if path.is_fifo() or path.is_socket()]
    assert [] == special


def _holder(path: Path) -> int:
    return holder_of(path) if path.exists() else 0
