"""A whole worker, or part of one, for each test that wants it, with a home of its own; nothing is left."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from worker.api.client import Client
from worker.api.tls import client_context
from worker.cgroups.plugins import default_parent
from worker.cgroups.survey import worker_scopes
from worker.linux.kernel.locks import lock_holder, open_lock
from worker.linux.kernel.procfs import command_line
from worker.linux.state.code_digest import this_generation

from ..support.cgroups import parents_of
from ..support.followed import Until
from ..support.generations import Machine

if TYPE_CHECKING:
    from ..support.stock import Stock

PATIENCE = 60.0
"""Seconds after which something that should happen counts as not happening."""


class Installation:
    """A worker as a user has it: WORKER_HOME, and the command."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.command = [sys.executable, "-m", "worker.cli.main"]
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WORKER_")},
            "WORKER_HOME": str(home),
            "WORKER_LISTEN": "127.0.0.1:0",
        }

    def worker(self, *arguments: str, code: int | None = 0, timeout: float = PATIENCE) -> str:
        """Run a command and return what it prints; assert its exit status."""
        done = self.run(*arguments, timeout=timeout)
        assert code is None or code == done.returncode, (done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def run(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[bytes]:
        """Run a command and return all there is to know about it."""
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
        """Return all facts about a job once it is over."""
        self.worker("wait", job, code=None)
        return self.query(job)

    def query(self, job: str) -> dict[str, object]:
        """Return all facts about a job now."""
        facts = json.loads(self.worker("query", "-o", "json", job))
        assert isinstance(facts, dict)
        return facts

    def stream(self, job: str) -> bytes:
        """Return all output of a job, following it to its end."""
        done = self.run("stream", job)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self) -> Client:
        """Return a writer's client, to be entered."""
        host, port = (self.home / "address").read_text().strip().rsplit(":", 1)
        pki = self.home / "pki"
        context = client_context(ca=pki / "ca.crt", certificate=pki / "writer.crt", key=pki / "writer.key")
        return Client(host, int(port), context)

    def server_pid(self) -> int:
        """Return the process that holds the server's lock."""
        return _holder(self.home / "server.lock")

    def supervisor_pid(self) -> int:
        """Return the process that holds the supervisor's lock."""
        return _holder(self.generation() / "lock")

    def recorder_pid(self) -> int:
        """Return the process that holds the recorder's lock."""
        return _holder(self.generation() / "recorder.lock")

    def zygote_pid(self) -> int:
        """Return the process that clones the jobs of our supervisor."""
        supervisor = self.supervisor_pid()
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
        try:
            pids = children.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return next((int(pid) for pid in pids if _is_zygote(int(pid))), 0)

    def generation(self) -> Path:
        """Return the directory of the supervisor of this version of the code."""
        return self.home / "supervisor" / this_generation()

    def kill(self, pid: int) -> None:
        """End one of our processes as a crash would, and wait until it is gone."""
        assert pid
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self.await_pidfd(pidfd)

    def down(self) -> None:
        """Stop everything, and wait for the supervisor and the recorder to leave."""
        if not self.server_pid():  # a test has killed it; only a server tidies up after it
            self.worker("up", code=None)
        self.worker("down", "--jobs", code=None)
        for pid in (self.supervisor_pid(), self.recorder_pid()):
            try:
                pidfd = os.pidfd_open(pid) if pid else None
            except ProcessLookupError:
                continue
            if pidfd is not None:
                self.await_pidfd(pidfd)

    def cgroups(self) -> list[Path]:
        """Return the control groups of this worker's jobs that exist."""
        return [path for parent in self.parent_cgroups() for path in parent.iterdir() if path.is_dir()]

    def parent_cgroups(self) -> list[Path]:
        """Return this worker's own control groups: one per hierarchy of v1, one on v2."""
        name, root = default_parent(self.home), Path("/sys/fs/cgroup")
        bases = [root, *root.glob("*/"), *worker_scopes(root)]
        return [base / name for base in bases if (base / name).is_dir()]

    def await_pidfd(self, pidfd: int) -> None:
        """Wait until a process has ended, and close its pidfd."""
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        gone = poll.poll(PATIENCE * 1000)
        os.close(pidfd)
        assert gone, "a process of the worker does not end"


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for something that nothing announces, but not for ever."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it does not happen"
            time.sleep(0.02)

    return wait


def _is_zygote(pid: int) -> bool:
    """Whether it is the zygote and none of its newborns, which have its arguments, but not its socket."""
    if b"worker.linux.zygote" not in command_line(pid):
        return False
    try:
        return any("socket:" in os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it has gone, or has closed what we looked at
        return False


def _holder(path: Path) -> int:
    if not path.exists():
        return 0
    fd = open_lock(path)
    try:
        return lock_holder(fd)
    finally:
        os.close(fd)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for all tests: making keys is slow, and not what they are about."""
    home = tmp_path_factory.mktemp("pki")
    Installation(home).worker("certs", "init", "--key-type", "p256")
    return home / "pki"


def _install(home: Path, pki: Path) -> Installation:
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "pki").symlink_to(pki)
    return Installation(home)


@contextmanager
def _installing(pki: Path) -> Iterator[Callable[[Path], Installation]]:
    installations = []

    def make(home: Path) -> Installation:
        installations.append(_install(home, pki))
        return installations[-1]

    yield make
    for installation in installations:
        installation.down()
        _assert_nothing_left(installation)


@pytest.fixture
def install(pki: Path) -> Iterator[Callable[[Path], Installation]]:
    """Make workers in directories of the test's choice, not yet up; nothing is left of them after it."""
    with _installing(pki) as make:
        yield make


@pytest.fixture(scope="module")
def module_install(pki: Path) -> Iterator[Callable[[Path], Installation]]:
    """Make workers that all tests of a module use."""
    with _installing(pki) as make:
        yield make


@pytest.fixture
def installation(tmp_path: Path, install: Callable[[Path], Installation]) -> Installation:
    """A worker of the test's own, up."""
    installation = install(tmp_path / "home")
    installation.worker("up")
    return installation


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, module_install: Callable[[Path], Installation]
) -> Installation:
    """A worker for all tests of a module that change nothing about it."""
    installation = module_install(tmp_path_factory.mktemp("shared") / "home")
    installation.worker("up")
    return installation


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, shared: Installation, pki: Path) -> Iterator["Stock"]:
    """A stock client of that worker."""
    from ..support.stock import Stock, stubs  # where none is wanted, grpcio need not be there

    with stubs(tmp_path_factory.mktemp("stubs")) as modules:
        yield Stock((shared.home / "address").read_text().strip(), pki, *modules)


@pytest.fixture
def machine(tmp_path: Path, until: Until) -> Iterator[Machine]:
    """A state directory on which no supervisor is left afterwards."""
    machine = Machine(tmp_path / "state", until)
    yield machine
    machine.await_supervisors(0)


@pytest.fixture
def parent() -> Iterator[str]:
    """Name a parent group that nobody else has, and insist that it is gone afterwards."""
    name = f"worker-test-{uuid4().hex[:8]}"
    yield name
    assert [] == [place for place in parents_of(name) if place.exists()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB; to be asked for before what works on it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def _assert_nothing_left(installation: Installation) -> None:
    """No process, cgroup, socket, FIFO or lock holder outlives a worker."""
    home = str(installation.home).encode()
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
