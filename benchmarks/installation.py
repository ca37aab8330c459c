"""A temporary worker as users install it: certificates, a server over TLS, a supervisor."""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from worker.api import certificates
from worker.api.certificates import KeyType
from worker.api.tls import client_context
from worker.client.client import Client
from worker.client.connection import Connection
from worker.linux.kernel.locks import lock_holder, open_lock

_TICK = os.sysconf("SC_CLK_TCK")


class Installation:
    """A WORKER_HOME and its processes."""

    def __init__(self, home: Path, python: str) -> None:
        self.home = home
        self._python = python
        self.pki = home / "pki"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WORKER_")},
            "WORKER_HOME": str(home),
            "WORKER_LISTEN": "127.0.0.1:0",
        }

    def worker(self, *arguments: str) -> str:
        """Run a `worker` command and return its output."""
        done = subprocess.run(
            [self._python, "-m", "worker.cli.main", *arguments],
            env=self.env,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    @property
    def address(self) -> str:
        """The address of the server."""
        return (self.home / "address").read_text().strip()

    def client(self) -> Client:
        """Return a client with the writer's certificate; use it as a context manager."""
        host, port = self.address.rsplit(":", 1)
        context = client_context(
            ca=self.pki / "ca.crt", certificate=self.pki / "writer.crt", key=self.pki / "writer.key"
        )
        return Client(partial(Connection, host, int(port), context))

    @property
    def server(self) -> int:
        """The pid of the server."""
        return _holder(self.home / "server.lock")

    @property
    def supervisor(self) -> int:
        """The pid of the supervisor."""
        return supervisor_of(self.home)

    @property
    def recorder(self) -> int:
        """The pid of the recorder."""
        return _holder(_generation(self.home) / "recorder.lock")

    def processes(self) -> dict[str, int]:
        """Return the pids of the server, the supervisor, and the helpers of the supervisor."""
        return {"server": self.server, **supervisor_processes(self.home)}


def supervisor_of(home: Path) -> int:
    """Return the pid of the only supervisor of this home, of whichever version."""
    return _holder(_generation(home) / "lock")


def supervisor_processes(home: Path) -> dict[str, int]:
    """Return the pids of the supervisor and its helpers; no job may be running."""
    supervisor = supervisor_of(home)
    found = {"supervisor": supervisor}
    for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        found["recorder" if "worker.linux.recorder" in words else "zygote"] = int(child)
    return found


def _generation(home: Path) -> Path:
    """Return the directory of the only generation of a home."""
    (lock,) = (home / "supervisor").glob("*/lock")
    return lock.parent


def install_wheel(directory: Path) -> Path:
    """Build the wheel, install it in a new environment, and return the directory of its programs.

    This is what users have: an editable installation adds a finder and may lack compiled modules.
    The dependencies are those of the environment that runs the benchmark.
    """
    root, home = Path(__file__).parent.parent, directory / "venv"
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(directory), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(home, symlinks=True)
    (wheel,) = directory.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    (site,) = home.glob("lib/python3*/site-packages")
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@contextmanager
def installed(*options: str, python: str = sys.executable) -> Iterator[Installation]:
    """Run a worker with this Python and these options of `worker serve`, and stop it at the end."""
    with tempfile.TemporaryDirectory() as directory:
        installation = Installation(Path(directory) / "home", python)
        installation.home.mkdir(mode=0o700)
        certificates.init(installation.pki, key_type=KeyType.P256)
        installation.worker("up", *options)
        try:
            yield installation
        finally:
            installation.worker("down", "--jobs")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in user and kernel mode."""
    return _cpu(pid, 11)


def cpu_seconds_of_children(pid: int) -> float:
    """Return the CPU time of all children that a process has waited for."""
    return _cpu(pid, 13)


def _cpu(pid: int, first: int) -> float:
    """Return the sum of the field `first` of proc_pid_stat(5), user mode, and the next, kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[first]) + int(fields[first + 1])) / _TICK


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in megabytes of 10^6 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6


def _holder(lock: Path) -> int:
    descriptor = open_lock(lock)
    try:
        return lock_holder(descriptor)
    finally:
        os.close(descriptor)
