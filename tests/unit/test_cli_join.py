"""`worker invite` and `worker join` as processes, for a server that does not run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE

import pytest

from worker.api.invitation_token import new_token
from worker.cli.outside_address import outside

from ..support.inviting import own_copy

COMMAND = [sys.executable, "-P", "-m", "worker.cli.main"]
TOKEN = str(new_token(b"ca"))


class Machines:
    """Two homes: that of the CA, and that of a user elsewhere."""

    def __init__(self, pki: Path, directory: Path) -> None:
        self.ca, self.client = directory / "ca", directory / "client"
        self.pki = own_copy(pki, self.ca)
        self.contexts = self.client / "config" / "worker" / "contexts"

    @contextmanager
    def inviting(
        self, *arguments: str, listen: str = "127.0.0.1:0", host: str = "127.0.0.1"
    ) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
        """Yield a running `worker invite`, and the arguments of `worker` that it prints, with this host."""
        process = subprocess.Popen(
            [*COMMAND, "invite", "--listen", listen, *arguments],
            env=self.environment(self.ca),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line.startswith(f"worker join {host}:"), process.stderr.read()
            yield process, line.split()[1:]
            process.terminate()

    def run(
        self, home: Path, *arguments: str, stdin: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment(home) | environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def join(
        self, *arguments: str, stdin: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of the client."""
        return self.run(self.client, *arguments, stdin=stdin, **environment)

    @staticmethod
    def environment(home: Path) -> dict[str, str]:
        """Return the environment of a user."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        return {**inherited, "WORKER_HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}


@pytest.fixture
def machines(pki: Path, tmp_path: Path) -> Machines:
    """The homes; that of the client does not exist yet."""
    return Machines(pki, tmp_path)


def test_what_a_join_leaves(machines: Machines) -> None:
    """A context with private key, the current one; the inviter reports who has joined, and ends."""
    options = ("--server", "192.0.2.7:7443", "--server", "[2001:db8::7]:7443")
    with machines.inviting("alice", "--role", "reader", *options) as (process, line):
        done = machines.join(*line)
        assert 0 == done.returncode, done.stderr
        out, err = process.communicate()
    assert 0 == process.returncode, err
    assert f"{machines.pki / 'alice.crt'} was issued to alice (reader), serial " in out
    assert "only this machine reaches 127.0.0.1:" in err
    assert "within 15m0s, as the user who is to be 'alice'" in err
    context = machines.contexts / "127.0.0.1"
    assert f"joined 192.0.2.7:7443, which is the context 127.0.0.1 here, in {context}\n" in done.stdout
    assert done.stdout.endswith("try: worker run hostname\n")
    modes = {path.name: S_IMODE(path.stat().st_mode) for path in context.iterdir()}
    assert {"ca.crt": 0o600, "client.crt": 0o600, "client.key": 0o600, "servers": 0o600} == modes
    assert "192.0.2.7:7443\n[2001:db8::7]:7443\n" == (context / "servers").read_text()
    assert ["127.0.0.1", "current"] == sorted(path.name for path in machines.contexts.iterdir())
    assert (machines.pki / "alice.crt").read_bytes() == (context / "client.crt").read_bytes()
    assert not list(machines.client.glob("pki"))
    again = machines.join(*line, "--context", "again")
    assert 1 == again.returncode
    assert again.stderr.endswith(
        "connection refused; "
        "an invitation ends after its first use, or when its time is over: ask for another one\n"
    )
    assert not (machines.contexts / "again").exists()


def test_the_host_of_the_other_machine_s_command(machines: Machines) -> None:
    """An invitation at every address has the name of the server, if the server is on this machine."""
    everywhere, here = "0.0.0.0:0", "localhost"
    role, elsewhere = ("--role", "reader"), ("--server", "192.0.2.77:7443")
    with machines.inviting(
        "alice", *role, *elsewhere, "--server", f"{here}:7443", listen=everywhere, host=here
    ):
        pass
    with machines.inviting("alice", *role, *elsewhere, listen=everywhere, host=outside("0.0.0.0")):
        pass
    with machines.inviting("alice", *role, "--server", f"{here}:7443"):
        pass


def test_commands_use_the_context(machines: Machines) -> None:
    """It is the current one; its keys are also for another address that a variable names."""
    with machines.inviting("alice", "--role", "reader", "--server", "127.0.0.1:1") as (_, line):
        assert 0 == machines.join(*line).returncode
    assert "cannot reach the server at 127.0.0.1:1: connection refused" in machines.join("list").stderr
    assert "there is no context named other; " in machines.join("list", WORKER_CONTEXT="other").stderr
    assert "no name of a context" in machines.join("list", WORKER_CONTEXT="../x").stderr
    elsewhere = machines.join("list", WORKER_SERVER="127.0.0.1:2")
    assert "cannot reach the server at 127.0.0.1:2: connection refused" in elsewhere.stderr
    default = machines.join("list", "--context", "default")
    assert "there is no readable key at " in default.stderr


def test_an_existing_context_is_replaced_only_by_force(machines: Machines) -> None:
    """It is refused before the token is used up; a later context does not become the current one."""
    with machines.inviting("alice", "--role", "reader", "--server", "127.0.0.1:1") as (_, line):
        assert 0 == machines.join(*line, "--context", "one").returncode
    before = (machines.contexts / "one" / "client.crt").read_bytes()
    with machines.inviting("bob", "--role", "writer", "--server", "127.0.0.1:2") as (_, line):
        refused = machines.join(*line, "--context", "one")
        assert (
            "worker: the context one exists; choose another name, or replace it with --force\n"
            == refused.stderr
        )
        assert before == (machines.contexts / "one" / "client.crt").read_bytes()
        assert 0 == machines.join(*line, "--context", "one", "--force").returncode
    assert (machines.pki / "bob.crt").read_bytes() == (
        machines.contexts / "one" / "client.crt"
    ).read_bytes()
    with machines.inviting("carl", "--role", "writer", "--server", "127.0.0.1:3") as (_, line):
        joined = machines.join(*line, "--context", "two")
    assert "try: WORKER_CONTEXT=two worker run hostname\n" in joined.stdout
    assert "one\n" == (machines.contexts / "current").read_text()
    assert ["current", "one", "two"] == sorted(path.name for path in machines.contexts.iterdir())


def test_a_token_from_stdin(machines: Machines) -> None:
    """It is not in the list of processes; -o json has the files."""
    with machines.inviting("alice", "--role", "reader", "--server", "127.0.0.1:1") as (_, line):
        wrong = machines.join(*line[:2], "-", stdin="")
        assert "stdin: this is not the token of an invitation" in wrong.stderr
        done = machines.join(*line[:2], "-", "-o", "json", stdin=f"{line[2]}\n")
    found = json.loads(done.stdout)
    assert ("127.0.0.1", "127.0.0.1:1") == (found["context"], found["server"])
    assert all(Path(found[name]).exists() for name in ("ca", "certificate", "key"))


def test_a_place_that_cannot_be_written_does_not_use_up_the_token(machines: Machines) -> None:
    """The client finds out before it connects."""
    machines.client.mkdir()
    (machines.client / "config").write_text("a file\n")
    with machines.inviting("alice", "--role", "reader", "--server", "127.0.0.1:1") as (process, line):
        done = machines.join(*line)
        assert (1, 1) == (done.returncode, done.stderr.count("\n"))
        assert "Not a directory" in done.stderr
        (machines.client / "config").unlink()
        assert 0 == machines.join(*line).returncode
        process.wait()


def test_ctrl_c_withdraws_the_invitation(machines: Machines) -> None:
    """No certificate was issued, and no file is left."""
    before = sorted(machines.pki.iterdir())
    with machines.inviting("alice", "--role", "reader", "--server", "127.0.0.1:1") as (process, _):
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate()[1]
        assert 130 == process.returncode
    assert before == sorted(machines.pki.iterdir())


def test_a_bundle(machines: Machines, tmp_path: Path) -> None:
    """It is written once, with a note that it contains a key, and joins as an invitation does."""
    path = tmp_path / "alice.bundle"
    arguments = ("invite", "alice", "--role", "reader", "--bundle", str(path), "--server", "127.0.0.1:1")
    done = machines.run(machines.ca, *arguments)
    assert 0 == done.returncode, done.stderr
    assert f"{path} contains a private key" in done.stderr
    assert 0o600 == S_IMODE(path.stat().st_mode)
    joined = machines.join("join", "--bundle", str(path), "--context", "there")
    assert 0 == joined.returncode, joined.stderr
    assert f"{path} contains a private key; delete it\n" in joined.stderr
    assert 0o600 == S_IMODE((machines.contexts / "there" / "client.key").stat().st_mode)
    again = machines.join("join", "--bundle", str(path), "--context", "there")
    assert "the context there exists" in again.stderr


def test_a_bundle_that_cannot_be_written_issues_nothing(machines: Machines, tmp_path: Path) -> None:
    """An existing file is not overwritten."""
    path = tmp_path / "file"
    path.write_text("precious")
    done = machines.run(machines.ca, "invite", "alice", "--role", "reader", "--bundle", str(path))
    assert (1, f"worker: {path}: File exists\n") == (done.returncode, done.stderr)
    assert "precious" == path.read_text()
    assert not (machines.pki / "alice.crt").exists()


def test_a_bundle_with_another_key_is_refused(machines: Machines, tmp_path: Path) -> None:
    """Nothing is left of it."""
    path = tmp_path / "bundle"
    found = {name: (machines.pki / file).read_text() for name, file in FILES.items()}
    path.write_text(json.dumps({"worker_bundle": 1, "name": "writer", "servers": ["127.0.0.1:1"], **found}))
    done = machines.join("join", "--bundle", str(path))
    assert 1 == done.returncode
    assert "does not belong to the certificate" in done.stderr
    assert [] == list(machines.contexts.iterdir())


FILES = {"ca": "ca.crt", "certificate": "writer.crt", "key": "reader.key"}

READER = ("invite", "x", "--role", "reader")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (READER, 2, "use either --listen, or --bundle"),
        ((*READER, "--listen", "127.0.0.1:0", "--bundle", "x"), 2, "use either --listen, or --bundle"),
        (("invite", "x", "--listen", "127.0.0.1:0"), 2, "Missing option '--role'"),
        ((*READER, "--listen", "127.0.0.1:0", "--ttl", "2d"), 2, "--ttl: use 1s to 24h0m0s"),
        ((*READER, "--listen", "127.0.0.1:0", "--ttl", "0"), 2, "--ttl: use 1s to 24h0m0s"),
        ((*READER, "--listen", "192.0.2.99:1"), 1, "cannot listen at 192.0.2.99:1: Cannot assign"),
        (("invite", "writer", "--role", "reader", "--listen", "127.0.0.1:0"), 1, "writer.crt exists"),
        (("invite", "a/b", "--role", "reader", "--listen", "127.0.0.1:0"), 1, "is not usable as the name"),
        (("join",), 2, "use HOST:PORT and TOKEN"),
        (("join", "127.0.0.1:1"), 2, "use HOST:PORT and TOKEN"),
        (("join", "127.0.0.1:1", TOKEN, "--bundle", "/dev/null"), 2, "use HOST:PORT and TOKEN"),
        (("join", "127.0.0.1:1", TOKEN[:-1]), 2, "copy the whole line"),
        (("join", "127.0.0.1:1", TOKEN), 1, "cannot reach 127.0.0.1:1: connection refused"),
        (("join", "127.0.0.1:1", TOKEN, "--context", "a/b"), 1, "'a/b' is no name of a context"),
        (("join", "--bundle", __file__), 1, "is not a bundle"),
    ],
)  # fmt: skip
def test_errors_name_the_problem(
    machines: Machines, arguments: tuple[str, ...], status: int, message: str
) -> None:
    """And change nothing."""
    before = sorted(machines.ca.rglob("*"))
    done = machines.run(machines.ca, *arguments)
    assert status == done.returncode, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "wj1_" not in done.stdout
    after = [path for path in machines.ca.rglob("*") if "config" not in path.parts]
    assert before == sorted(after)
    assert not list(machines.ca.rglob("client.*"))
