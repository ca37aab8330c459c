"""Policies through the real command: the recipes of docs/how-to/policy.md, what is run, and reloads."""

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.fixtures import Install
from ..support.installation import Installation
from ..support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as other users")

PAGE = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "policy.md").read_text()
RECIPES = "\n".join(re.findall(r"```toml\n# policy\n(.*?)```", PAGE, re.DOTALL))
ADMIN = (
    '\n[[rule]]\nname = "admin"\nclients = ["writer"]\ncalls = ["all"]\njobs = "all"\ncommands = ["*"]\n'
)
REFUSED = " of the policy "
"""In each error of a call that the policy does not allow."""


class Governed:
    """A server with a policy, and its clients."""

    def __init__(self, installation: Installation, policy: Path) -> None:
        self.installation = installation
        self.policy = policy

    def as_client(self, name: str, *arguments: str) -> tuple[int, str]:
        """Run a command as a client; return its exit status, and its output or the error."""
        pki = self.installation.home / "pki"
        keys = ["--cert", str(pki / f"{name}.crt"), "--key", str(pki / f"{name}.key")]
        command, *rest = arguments
        done = self.installation.run(command, *keys, *rest)
        return done.returncode, (done.stdout or done.stderr).decode()

    def replaced(self, text: str) -> int:
        """Write a policy beside the old one, and rename it; return how often the server reported it."""
        before = self.reported()
        new = self.policy.with_suffix(".new")
        new.write_text(text)
        new.rename(self.policy)
        wait_until(lambda: self.reported() != before)
        return self.reported()

    def reported(self) -> int:
        """Return how often the server has read its policy again."""
        log = (self.installation.home / "server.log").read_text()
        return log.count("the policy was replaced") + log.count("the policy was not replaced")


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory, module_install: Install) -> Governed:
    """A server whose policy each test replaces."""
    home = tmp_path_factory.mktemp("policy")
    policy = home / "policy.toml"
    policy.write_text(ADMIN)
    installation = module_install(home / "home")
    for name in ("ci-1", "alice", "carol", "deploy", "guest"):
        installation.worker("certs", "issue", name, "--role", "writer", "--key-type", "p256")
    installation.worker("up", "--policy", str(policy), "--default-user", "nobody")
    return Governed(installation, policy)


@pytest.fixture
def safe() -> Iterator[Path]:
    """A directory that only root can write to, and so its parents."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="worker-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def recipes(safe: Path) -> str:
    """Return the recipes of the page, with programs and users that are here, and print what they get."""
    script = safe / "show"
    script.write_text('#!/bin/sh\necho "$(id -un) $0 $*"\n')
    script.chmod(0o755)
    text = RECIPES.replace('"/srv/app"', f'"{safe}"')
    for program in ("apt-get", "bwrap", "git", "make", "systemctl"):
        (safe / program).symlink_to(script)
        text = text.replace(f'"/usr/bin/{program}"', f'"{safe / program}"')
    return f'path = "{safe}:/usr/bin:/bin"\n' + text.replace('"build"', '"daemon"') + ADMIN


def test_recipes(governed: Governed, safe: Path) -> None:
    """CI builds, on-call restarts, none installs packages, deploy has one directory, guests a sandbox."""
    policy = recipes(safe)
    governed.replaced(policy)

    def run(client: str, *command: str) -> tuple[int, str]:
        return governed.as_client(client, "run", *command)

    def denied(client: str, *command: str) -> bool:
        code, text = run(client, *command)
        return code == 125 and REFUSED in text

    build = ("make", "-C", "/srv/build/app", "all", "-j2")
    assert (0, f"nobody {safe}/make {' '.join(build[1:])}\n") == run("ci-1", *build)
    assert (0, f"daemon {safe}/make {' '.join(build[1:])}\n") == run("ci-1", "--user", "daemon", *build)
    assert 0 == run("ci-1", "--env", "MODE=debug", "--env", "CI_JOB=7", "--memory", "1G", *build)[0]

    assert (0, f"nobody {safe}/show a\n") == run("carol", "show", "a")
    assert denied("carol", "apt-get", "install", "x")
    assert denied("carol", "--user", "root", "id")

    # Without the recipe by which everybody may start anything:
    governed.replaced(only(policy, "ci builds", "on-call", "sandboxed", "deploy"))
    assert denied("ci-1", "make", "-C", "/srv/build/../../etc", "all")
    assert 0 == run("ci-1", "make", "-C", "/srv/build/app", "-C", "/etc", "-f", "/etc/Makefile")[0]
    assert denied("ci-1", "make", "-C", "/srv/build/app/sub")
    assert denied("ci-1", "make", "-f", "/srv/build/app")
    assert denied("ci-1", "--env", "MODE=fast", *build)
    assert denied("ci-1", "--env", "MAKEFLAGS=x", *build)
    assert denied("ci-1", "--user", "root", *build)
    assert denied("ci-1", "--memory", "9G", *build)
    assert denied("carol", *build)

    pull = ("git", "pull", "--ff-only")
    assert (0, f"nobody {safe}/git pull --ff-only\n") == run("deploy", "--cwd", str(safe), *pull)
    assert denied("deploy", *pull)
    assert denied("deploy", "--cwd", "/usr", *pull)
    assert denied("deploy", "--cwd", str(safe), "git", "-C", "/etc", "pull", "--ff-only")
    assert denied("deploy", "--cwd", str(safe), *pull, "other")

    restart = ("--user", "root", "systemctl", "restart", "nginx.service")
    assert (0, f"root {safe}/systemctl restart nginx.service\n") == run("alice", *restart)
    assert 0 == run("alice", "--user", "root", "systemctl", "restart", "app@blue.service")[0]
    assert denied("alice", "--user", "root", "systemctl", "edit", "nginx.service")
    assert denied("alice", "--user", "root", "systemctl", "restart", "nginx.service", "sshd.service")
    assert denied("alice", "--user", "root", "systemctl", "-H", "other", "restart", "nginx.service")
    assert denied("carol", *restart)
    assert 0 == governed.as_client("alice", "list")[0]
    code, text = run("guest", "show", "a")
    assert (0, True) == (code, text.startswith(f"nobody {safe}/bwrap --unshare-all --die-with-parent"))
    assert text.endswith(f"-- {safe}/show a\n")


def only(policy: str, *names: str) -> str:
    """Return the rules of a policy whose names begin so, and the administrator's."""
    head, *rules = policy.split("[[rule]]\n")
    kept = [
        rule for rule in rules if rule.startswith(tuple(f'name = "{name}' for name in (*names, "admin")))
    ]
    return head + "".join(f"[[rule]]\n{rule}" for rule in kept)


CAT = """
[[rule]]
clients = ["alice"]
calls = ["start", "read", "output"]
commands = ["/usr/bin/cat"]
env = ["PATH"]
"""


def test_exactly_the_file_that_was_found_is_executed(governed: Governed, tmp_path: Path) -> None:
    """argv[0] is what was typed; neither a PATH of the client nor a working directory selects the file."""
    governed.replaced(ADMIN + CAT)
    evil = tmp_path / "cat"
    evil.write_text("#!/bin/sh\necho evil\n")
    evil.chmod(0o755)
    for typed in ("cat", "/bin/cat", "bin/../bin/cat"):
        code, text = governed.as_client(
            "alice", "run", "--env", f"PATH={tmp_path}", typed, "/proc/self/cmdline"
        )
        assert (0, f"{typed}\0/proc/self/cmdline\0") == (code, text)
    code, text = governed.as_client("alice", "run", str(evil))
    assert (125, True) == (code, REFUSED in text)
    assert 127 == governed.as_client("alice", "run", "nosuch")[0]


def test_a_command_that_others_can_change_is_denied(governed: Governed, safe: Path) -> None:
    """Unless the rule accepts it, an allowed file in a directory of another user does not run."""
    script = safe / "x"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    rule = CAT.replace("/usr/bin/cat", str(script))
    governed.replaced(ADMIN + rule)
    assert (0, "ran\n") == governed.as_client("alice", "run", str(script))
    os.chown(safe, 65534, 65534)
    governed.replaced(ADMIN + rule)  # what was found is not kept across policies
    assert 125 == governed.as_client("alice", "run", str(script))[0]
    governed.replaced(ADMIN + rule + "unsafe_path = true\n")
    assert (0, "ran\n") == governed.as_client("alice", "run", str(script))


def test_a_wrapper_is_put_before_the_command(governed: Governed) -> None:
    """The job runs in the wrapper, and is shown as it was typed, with the wrapper in the JSON."""
    governed.replaced(ADMIN + CAT + 'wrap = ["/usr/bin/env", "-i", "A=1"]\n')
    code, text = governed.as_client("alice", "run", "cat", "/proc/self/cmdline", "/proc/self/environ")
    assert (0, "/usr/bin/cat\0/proc/self/cmdline\0/proc/self/environ\0A=1\0") == (code, text)
    line = governed.as_client("alice", "start", "cat", "/proc/self/cmdline")[1]
    facts = governed.installation.query(line.split()[1])
    assert ("cat", ["/proc/self/cmdline"]) == (facts["command"], facts["args"])
    assert ("/usr/bin/cat", ["/usr/bin/env", "-i", "A=1"]) == (facts["executable"], facts["wrap"])
    assert "nobody" == facts["user"]


def test_reloads(governed: Governed) -> None:
    """A rename and SIGHUP replace the policy, a write in place does not, a broken file changes nothing."""
    governed.replaced(ADMIN + CAT)
    reported = governed.reported()
    governed.policy.write_text(ADMIN)  # in place: alice keeps her rule
    assert 0 == governed.as_client("alice", "run", "cat", "/dev/null")[0]
    assert reported == governed.reported()
    os.kill(governed.installation.server_pid(), signal.SIGHUP)
    wait_until(lambda: governed.reported() != reported)
    assert 125 == governed.as_client("alice", "run", "cat", "/dev/null")[0]

    governed.replaced(ADMIN + CAT)
    with governed.policy.open("a") as slow:  # a part of the new rules may be missing
        slow.write("# more")
        slow.flush()
        reported = governed.reported()
        os.kill(governed.installation.server_pid(), signal.SIGHUP)
        wait_until(lambda: governed.reported() != reported)
    assert "is being written; write another file" in governed.as_client("writer", "whoami")[1]
    governed.replaced(ADMIN + CAT)
    governed.replaced(ADMIN + CAT.replace("calls", "cals"))
    assert 0 == governed.as_client("alice", "run", "cat", "/dev/null")[0]
    assert "rule 2: unknown key 'cals'" in governed.as_client("writer", "whoami")[1]
    assert "cals" not in governed.as_client("alice", "whoami")[1]
    assert "unknown key 'cals'" in governed.installation.worker("doctor", code=None)
    governed.replaced(ADMIN)
    governed.policy.chmod(0o666)
    reported = governed.reported()
    os.kill(governed.installation.server_pid(), signal.SIGHUP)
    wait_until(lambda: governed.reported() != reported)
    assert "can be written by others" in governed.as_client("writer", "whoami")[1]
    governed.policy.chmod(0o600)
    mode = governed.policy.parent.stat().st_mode
    governed.policy.parent.chmod(0o770)  # who can write there can rename another file over it
    reported = governed.reported()
    os.kill(governed.installation.server_pid(), signal.SIGHUP)
    wait_until(lambda: governed.reported() != reported)
    assert f"on the way to {governed.policy}, can be written" in governed.as_client("writer", "whoami")[1]
    governed.policy.parent.chmod(mode)
    governed.policy.unlink()
    os.kill(governed.installation.server_pid(), signal.SIGHUP)
    wait_until(lambda: "cannot read" in governed.as_client("writer", "whoami")[1])
    governed.replaced(ADMIN)
    assert "Trouble" not in governed.as_client("writer", "whoami")[1]


def test_a_server_does_not_start_with_a_policy_that_it_cannot_use(install: Install, tmp_path: Path) -> None:
    """A missing, broken or unprotected file, or no default user, is an error that names the remedy."""
    installation = install(tmp_path / "home")
    policy = tmp_path / "policy.toml"

    def failure(*more: str) -> str:
        done = installation.run("serve", "--policy", str(policy), *more)
        assert 1 == done.returncode
        return done.stderr.decode()

    user = ("--default-user", "nobody")
    assert f"cannot read {policy}: No such file or directory" in failure(*user)
    policy.write_text("[[rule]]")
    assert f"{policy}: rule 1: calls: list groups" in failure(*user)
    policy.write_text("")
    assert "needs a default_user" in failure()
    assert "default_user: no user 'nosuch'" in failure("--default-user", "nosuch")
    policy.chmod(0o664)
    assert f"chmod go-w {policy}" in failure(*user)
    policy.chmod(0o644)
    os.chown(policy, 65534, 0)
    assert f"chown root {policy}" in failure(*user)


def test_policy_commands(governed: Governed, tmp_path: Path) -> None:
    """`check` and `explain` say what is wrong, what is suspicious, and which rule decides."""
    worker = governed.installation
    file = tmp_path / "new.toml"
    file.write_text(CAT.replace("calls", "cals"))
    done = worker.run("policy", "check", str(file))
    assert (1, True) == (done.returncode, "rule 1: unknown key 'cals'" in done.stderr.decode())
    file.write_text(CAT.replace("/usr/bin/cat", "/bin/sh"))
    text = worker.worker("policy", "check", str(file))
    assert "warning: rule 'rule 1': commands: /usr/bin/sh runs other commands" in text
    assert text.endswith(f"{file}: 1 rule, 0 quotas\n")

    file.write_text(CAT)
    explain = ("policy", "explain", "--policy", str(file), "--default-user", "nobody")
    alice = ("--as", "alice", "--role", "writer")
    assert "allowed: rule 'rule 1'" in worker.worker(*explain, *alice, "--", "cat", "-v")
    assert "command: /usr/bin/cat (safe)" in worker.worker(*explain, *alice, "--", "cat", "-v")
    by_certificate = ("--cert", str(worker.home / "pki" / "alice.crt"))
    assert "allowed: rule 'rule 1'" in worker.worker(*explain, *by_certificate, "cat")
    text = worker.worker(*explain, *alice, "--env", "A=1", "cat", code=1)
    assert "denied: no rule of the policy allows it" in text
    assert "rule 'rule 1' (allow): does not match: env: A=1; the rule has PATH" in text
    text = worker.worker(*explain, *alice, "--secret", f"db={file}", "cat", code=1)
    assert "rule 'rule 1' (allow): does not match: secrets: db; the rule has none" in text
    text = worker.worker(*explain, "--as", "alice", "--role", "reader", "cat", code=1)
    assert "denied: no role of the client has the right" in text
    assert 2 == worker.run(*explain, "cat").returncode


def test_the_doctor_of_a_client_that_may_not_read(governed: Governed) -> None:
    """The server answers; who the client is and what it may call is known without any right to read."""
    governed.replaced(CAT.replace('"read", ', "") + ADMIN)
    status, text = governed.as_client("alice", "doctor", "-o", "json")
    findings = {each["subject"]: each for each in json.loads(text)["findings"]}
    assert (0, "ok") == (status, findings["server"]["verdict"])
    calls = "output (your own jobs), start (as the policy allows)"
    assert (
        f"'alice', roles writer, may call: {calls}; the policy gives no read, so jobs and audit log were "
        in (findings["client"]["text"])
    )
    assert "warning" == findings["client"]["verdict"]
    governed.replaced(CAT + ADMIN)
    assert "the policy gives no read" not in governed.as_client("alice", "doctor")[1]
