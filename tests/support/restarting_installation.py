"""An installation whose server is restarted whenever it is killed."""

import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from worker.core.steps import Step
from worker.linux.crash_points import VARIABLE

from .installation import Installation
from .waiting import PATIENCE

MARK = "WORKER_CRASH_SUITE"
"""Set in the environment of every job, to the home of its worker: this finds all processes of jobs."""

ROLES = ("server", "supervisor", "zygote", "recorder")


class RestartingInstallation:
    """The installation, the thread that restarts its server, and checks of what it leaves behind."""

    def __init__(self, installation: Installation, settings: Mapping[str, str] | None = None) -> None:
        self.installation = installation
        self.home = installation.home
        self.runs = self.home.parent / f"{self.home.name}.runs"
        self._crash_points = self.home.parent / f"{self.home.name}.crash-points"
        self._crash_points.mkdir()
        installation.env |= {
            VARIABLE: str(self._crash_points),
            "WORKER_LISTEN": f"127.0.0.1:{_quiet_port()}",
            **(settings or {}),
        }
        self._operator = _Operator(installation)
        self._usual: dict[str, Counter[str]] = {}

    def up(self) -> None:
        """Keep a server running from now on; return when it listens."""
        self._operator = _Operator(self.installation)
        self._operator.start()
        deadline = time.monotonic() + PATIENCE
        while not (self.home / "address").exists():  # later servers listen at the same address
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)

    def down(self) -> None:
        """Stop the server as an operator does; supervisor and recorder exit by themselves."""
        self._operator.end()

    def settle(self) -> None:
        """Store what its processes have open now as what they have open without jobs."""
        self._usual = {role: self._open_in(role) for role in ROLES}

    def pid(self, role: str) -> int:
        """Return the process of this role, 0 if there is none."""
        finders = {
            "server": self.installation.server_pid,
            "supervisor": self.installation.supervisor_pid,
            "recorder": self.installation.recorder_pid,
            "zygote": self.installation.zygote_pid,
        }
        return finders[role]()

    def kill(self, role: str) -> bool:
        """Kill the process of this role; return whether there was one."""
        pid = self.pid(role)
        try:
            pidfd = os.pidfd_open(pid) if pid else -1
        except ProcessLookupError:
            return False
        if pidfd < 0:
            return False
        try:
            if self.pid(role) != pid:  # the pid may have been reused before we opened it
                return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def set_crash_point(self, role: str, step: Step) -> Path:
        """Kill the next process of this role at this step; the returned file is deleted then."""
        crash_point = self._crash_points / f"{role}.{step}"
        crash_point.touch()
        return crash_point

    def left_over(self) -> list[object]:
        """Return everything that should not exist once all jobs are removed."""
        own = {self.pid(role) for role in ROLES}
        return [
            *self._operator.faults,
            *(pid for pid in self._processes() if pid not in own),
            *self.installation.cgroups(),
            *(self.home / "jobs").iterdir(),
            *(f"{role} has {what} open" for role in self._usual for what in self._unusual(role)),
        ]

    def _processes(self) -> list[int]:
        """Return every process of this worker and of its jobs, including children before exec."""
        home = str(self.home).encode()
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and home in _read(entry / "cmdline") + _read(entry / "environ")
        ]

    def _unusual(self, role: str) -> list[str]:
        return sorted((self._open_in(role) - self._usual[role]).elements())

    def _open_in(self, role: str) -> Counter[str]:
        """Count the open files of a process by kind."""
        found: Counter[str] = Counter()
        for link in Path("/proc", str(self.pid(role)), "fd").glob("*"):
            try:
                found[re.sub(r"\[\d+\]$", "", str(link.readlink()))] += 1
            except FileNotFoundError:  # closed meanwhile
                continue
        return found


class _Operator(threading.Thread):
    """Runs the server, and restarts it whenever it was killed."""

    def __init__(self, installation: Installation) -> None:
        super().__init__(name="operator")
        self.faults: list[str] = []
        self._installation = installation
        self._ending = threading.Event()
        self._changing = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Keep a server running until ``end``."""
        with (self._installation.home / "server.log").open("ab") as log:
            while (server := self._next(log.fileno())) is not None:
                code = server.wait()
                if code != -signal.SIGKILL and not self._ending.is_set():
                    self.faults.append(f"the server exited with {code}")
                    return

    def end(self) -> None:
        """Stop the server, and return when it has ended."""
        with self._changing:
            self._ending.set()
            if self._server is not None:
                self._server.terminate()
        self.join()

    def _next(self, log: int) -> "subprocess.Popen[bytes] | None":
        with self._changing:
            if self._ending.is_set():
                return None
            self._server = subprocess.Popen(
                [*self._installation.command, "serve"],
                env=self._installation.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            return self._server


def _quiet_port() -> int:
    """Return a port outside the ephemeral range: a client could connect to itself while no server runs."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
