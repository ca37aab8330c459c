"""Workers in the guest: of root, and of a user to whom systemd has delegated a cgroup."""

import json
import re
from abc import ABC, abstractmethod
from pathlib import Path

from .machine import PATIENCE, Guest

DOCUMENTATION = Path(__file__).parents[2] / "docs"
CGROUPS = "/sys/fs/cgroup"
RUNTIME_DIRECTORY = "/run/user/1000"

MODULE = "worker.cli.main"
"""The module that the command `worker` runs."""

PRELOAD = [
    f"worker.cli.commands.{name}" for name in ("certs", "doctor", "down", "query", "start", "stream")
]

LOCK_HOLDER = """
import sys
from worker.linux.kernel.locks import lock_holder, open_lock
from pathlib import Path
print(lock_holder(open_lock(Path(sys.argv[1]))))
"""


class Installation(ABC):
    """A worker with its own WORKER_HOME, seen from outside."""

    user = "tester"
    user_home = "/home/tester"

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.home = f"{self.user_home}/{type(self).__name__}"
        self.variables = [f"WORKER_HOME={self.home}", "WORKER_LISTEN=127.0.0.1:0"]

    @abstractmethod
    def up(self) -> None:
        """Start the server, or restart it, as such a user would."""

    def worker(self, *arguments: str, code: int | None = 0, timeout: float = PATIENCE) -> str:
        """Run the command as the worker's user and return its output; assert its exit status."""
        done = self.guest.run(["worker", *arguments], timeout=timeout, call=self._call())
        assert code is None or code == done.returncode, (done.returncode, done.stdout, done.stderr)
        return (done.stdout + done.stderr if code else done.stdout).decode()

    def as_user(self, *command: str) -> list[str]:
        """Return a command as the worker's user would run it."""
        identity = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        return [*identity, "env", *self._environment(), *command]

    def _call(self) -> dict[str, object]:
        """Return the request that makes the agent run the command `worker` as the worker's user."""
        environment = dict(variable.split("=", 1) for variable in self._environment())
        return {"module": MODULE, "preload": PRELOAD, "user": self.user, "environment": environment}

    def _environment(self) -> list[str]:
        return [f"HOME={self.user_home}", f"XDG_RUNTIME_DIR={RUNTIME_DIRECTORY}", *self.variables]

    def start(self, *command: str) -> str:
        """Start a job and return its id."""
        return self.worker("start", *command).split()[1]

    def query(self, job: str) -> dict[str, object]:
        """Return all facts about a job now."""
        facts = json.loads(self.worker("query", "-o", "json", job))
        assert isinstance(facts, dict)
        return facts

    def first_line(self, job: str) -> str:
        """Wait for the first line that a job writes, and return it."""
        done = self.guest.run(["worker", "stream", job], call=self._call(), first_line=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().rstrip("\n")

    def cgroups(self) -> list[str]:
        """Return the cgroups of jobs, of this worker or another, below their mount point."""
        found = self.guest.check("find", CGROUPS, "-type", "d", "-name", "*-*-*-*-*")
        return [path.removeprefix(CGROUPS) for path in found.split()]

    def cgroup_file(self, cgroup: str, name: str) -> str:
        """Return the content of a kernel file of a cgroup."""
        return self.guest.check("cat", f"{CGROUPS}{cgroup}/{name}").strip()

    def processes(self, job: str) -> list[str]:
        """Return the pids of a job, found by the variable that each of its processes inherits."""
        found = self.guest.run(["bash", "-c", f"grep -slz '^WORKER_JOB_ID={job}$' /proc/[0-9]*/environ"])
        return found.stdout.decode().split()

    def wait_until(self, condition: str) -> None:
        """Return once a shell's condition holds in the guest; there is no event to wait for."""
        self.guest.check("bash", "-c", f"until {condition}; do sleep 0.1; done")

    def kill_server(self) -> None:
        """Kill the server, as in a crash."""
        self._kill_holder(f"{self.home}/server.lock")

    def kill_supervisor(self) -> None:
        """Kill the supervisor, as in a crash."""
        self._kill_holder(self.guest.check("bash", "-c", f"echo {self.home}/supervisor/*/lock").strip())

    def _kill_holder(self, lock: str) -> None:
        holder = self.guest.check("python3", "-c", LOCK_HOLDER, lock).strip()
        self.guest.check("kill", "-KILL", holder)

    def down(self) -> None:
        """Stop everything, wait until the supervisor and the recorder have exited, and free the disk."""
        self.worker("down", "--jobs", code=None)
        self.wait_until(f"! pgrep -f '[ ]{self.home}'")
        self.guest.check("rm", "-rf", self.home)


class RootInstallation(Installation):
    """Root starts it; its cgroups are in the root of the hierarchy."""

    user = "root"
    user_home = "/root"

    def up(self) -> None:
        """Start it from the current cgroup."""
        self.worker("up")


class UserServiceInstallation(Installation):
    """The administrator has created a service with User= and Delegate=yes."""

    UNIT = "worker-of-tester"

    def up(self) -> None:
        """Start it through systemd; after a crash start a new server in the remaining unit."""
        if self.guest.run(["systemctl", "is-active", self.UNIT]).returncode == 0:
            # As DelegateSubgroup= does since systemd 254.
            enter = f"echo $$ > {CGROUPS}/system.slice/{self.UNIT}.service/worker-server/cgroup.procs"
            self.guest.check("bash", "-c", f'{enter}; exec "$@"', "-", *self.as_user("worker", "up"))
            return
        settings = ["Delegate=yes", "Type=oneshot", "RemainAfterExit=yes", "OOMPolicy=continue"]
        self.guest.check(
            *("systemd-run", "--quiet", f"--unit={self.UNIT}", f"--uid={self.user}"),
            *(f"--property={setting}" for setting in settings),
            *(f"--setenv={variable}" for variable in self.variables),
            *("worker", "up"),
        )

    def down(self) -> None:
        """Stop the unit too."""
        super().down()
        self.guest.check("systemctl", "stop", self.UNIT)


class UserScopeInstallation(Installation):
    """The user has a systemd instance, and starts the worker in a scope of it."""

    def up(self) -> None:
        """Start it in its own scope; the scope of a server that crashed continues with its jobs."""
        scope = ["systemd-run", "--user", "--scope", "--quiet", "--property=Delegate=yes"]
        self.guest.check(*self.as_user(*scope, "worker", "up"))


class SystemServiceInstallation(Installation):
    """The administrator has installed it as a service according to docs/how-to/service.md."""

    user = "root"
    user_home = "/root"
    UNIT = "worker.service"
    UNIT_FILE = re.compile(r"```ini\n(\[Unit\].*?)```", re.DOTALL)

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.home = "/var/lib/worker"
        self.variables = []

    def install(self) -> None:
        """Install the unit file."""
        text = (DOCUMENTATION / "how-to" / "service.md").read_text()
        (unit,) = self.UNIT_FILE.findall(text)
        done = self.guest.run(["tee", f"/etc/systemd/system/{self.UNIT}"], data=unit.encode())
        assert done.returncode == 0, done.stderr
        self.guest.check("systemctl", "daemon-reload")

    def up(self) -> None:
        """Start it now, and at every boot."""
        self.guest.check("systemctl", "enable", "--now", self.UNIT)

    def down(self) -> None:
        """Stop the jobs, which the service does not do."""
        super().down()
        self.guest.check("systemctl", "disable", "--now", self.UNIT)

    def main_process(self) -> str:
        """Return the pid of the server as systemd reports it; 0 if there is none."""
        return self.guest.check("systemctl", "show", "--property=MainPID", "--value", self.UNIT).strip()

    def supervisor_scopes(self) -> list[str]:
        """Return the systemd scopes of supervisors, also of dead supervisors whose jobs still run."""
        listed = self.guest.check(
            *("systemctl", "list-units", "--plain", "--no-legend", "worker-*-supervisor-*.scope")
        )
        return [line.split()[0] for line in listed.splitlines()]
