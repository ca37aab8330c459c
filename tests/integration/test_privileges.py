"""The user of a job, what it may become, and which keys it has."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.fixtures import Install
from ..support.installation import Installation
from ..support.unprivileged import UID, can_become_unprivileged, unprivileged_installation

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")

IDENTITY = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME"


@pytest.fixture
def set_user_id() -> Iterator[str]:
    """A copy of id(1) that sets the user id to root, where every user can execute it."""
    with tempfile.TemporaryDirectory(prefix="worker-suid-") as name:
        os.chmod(name, 0o755)
        if os.statvfs(name).f_flag & os.ST_NOSUID:
            pytest.skip("the temporary directory is mounted with nosuid")
        program = f"{name}/id"
        shutil.copy(str(shutil.which("id")), program)
        os.chmod(program, 0o4755)
        yield program


@AS_ROOT
@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("nobody", b"65534\n65534\n65534\n/nonexistent nobody nobody\n"),
        ("65534", b"65534\n65534\n65534\n/nonexistent nobody nobody\n"),
        ("nobody:daemon", b"65534\n1\n1\n/nonexistent nobody nobody\n"),
        ("65534:54321", b"65534\n54321\n54321\n/nonexistent nobody nobody\n"),
        ("54321", b"54321\n54321\n54321\n/ 54321 54321\n"),
        ("54321:daemon", b"54321\n1\n1\n/ 54321 54321\n"),
        ("54321:0", b"54321\n0\n0\n/ 54321 54321\n"),
    ],
)
def test_every_form_of_a_user(shared: Installation, user: str, identity: bytes) -> None:
    """A user is a name or a number, with or without a group, also without an entry in the database."""
    assert identity == shared.stream(shared.start("--user", user, "sh", "-c", IDENTITY))


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("nobody:no-such-group", "user: no group 'no-such-group' on this machine"),
        ("no-such-user:root", "user: no user 'no-such-user' on this machine"),
        ("4294967295", "user: user 4294967295 is not a possible number; the highest is 4294967294"),
        ("nobody:", "user: 'nobody:' names no group; write USER, or USER:GROUP"),
    ],
)
def test_the_wrong_part_of_a_user_is_named(shared: Installation, user: str, reason: str) -> None:
    """The error names the part of a user that does not exist; nothing is started."""
    done = shared.run("run", "--user", user, "true")
    assert f"worker: {reason}\n" == done.stderr.decode()
    assert 125 == done.returncode


@AS_ROOT
def test_a_set_user_id_program_gives_no_privileges(shared: Installation, set_user_id: str) -> None:
    """A job of another user cannot become root through a set-user-ID program, unless it asks for that."""
    assert b"65534\n" == shared.run("run", "--user", "nobody", set_user_id, "-u").stdout
    assert b"0\n" == shared.run("run", "--user", "nobody", "--new-privs", set_user_id, "-u").stdout
    job = shared.start("--user", "nobody", "--new-privs", "true")
    assert shared.query(job)["new_privileges"] is True


NO_NEW_PRIVS = ("sh", "-c", "grep NoNewPrivs /proc/self/status")


@AS_ROOT
def test_the_user_of_the_worker_keeps_its_privileges(shared: Installation) -> None:
    """A job whose user was not changed, also one that names the worker's own, has no no_new_privs."""
    for options in ((), ("--user", "root")):
        assert b"NoNewPrivs:\t0\n" == shared.run("run", *options, *NO_NEW_PRIVS).stdout
    assert b"NoNewPrivs:\t1\n" == shared.run("run", "--user", "nobody", *NO_NEW_PRIVS).stdout


@pytest.mark.parametrize(("setting", "value"), [("always", b"1"), ("never", b"0")])
def test_no_new_privs_for_all_jobs_or_for_none(
    install: Install, tmp_path: Path, setting: str, value: bytes
) -> None:
    """A setting of the spawner decides for all jobs; ``always`` rejects a job that wants an exception."""
    config = tmp_path / "worker.toml"
    config.write_text(f'[spawner]\nname = "supervisor"\nno_new_privs = "{setting}"\n')
    installation = install(tmp_path / "home")
    installation.worker("up", "--config", str(config))
    users = (("--user", "nobody"), ()) if os.geteuid() == 0 else ((),)
    for options in users:
        assert b"NoNewPrivs:\t" + value + b"\n" == installation.run("run", *options, *NO_NEW_PRIVS).stdout
    requested = installation.run("run", "--new-privs", *NO_NEW_PRIVS)
    if setting == "always":
        assert requested.stderr.startswith(b"worker: no job of this server")
    else:
        assert 0 == requested.returncode


@pytest.mark.skipif(not can_become_unprivileged(), reason="only root can run a worker as another user")
def test_a_worker_without_root_changes_no_privileges(set_user_id: str) -> None:
    """Sudo and newuidmap work in the jobs of an unprivileged worker; it cannot become another user."""
    with unprivileged_installation() as installation:
        assert b"NoNewPrivs:\t0\n" == installation.run("run", *NO_NEW_PRIVS).stdout
        assert b"0\n" == installation.run("run", set_user_id, "-u").stdout
        assert f"{UID}\n".encode() == installation.run("run", "--user", f"{UID}:{UID}", "id", "-u").stdout
        for user, reason in (
            ("root", "cannot become 'root'"),
            (f"{UID}:0", "cannot change to group 0"),
        ):
            done = installation.run("run", "--user", user, "id")
            assert reason in done.stderr.decode()


KEYS = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
keyctl = 250 if os.uname().machine == "x86_64" else 219
add_key = 248 if os.uname().machine == "x86_64" else 217
session = libc.syscall(keyctl, 0, -3, 0, 0, 0)
if session < 0 and ctypes.get_errno() == errno.ENOSYS:
    print(json.dumps({"session": 0}))
    raise SystemExit
found = libc.syscall(keyctl, 10, -3, b"user", b"worker-test-secret", 0)
mine = libc.syscall(add_key, b"user", b"worker-test-mine", b"x", 1, -3)
print(json.dumps({"session": session, "found": found > 0, "mine": mine > 0}))
"""


def test_a_session_keyring_of_its_own(install: Install, tmp_path: Path) -> None:
    """A job finds no key of the worker's session keyring, and its keys are gone with it."""
    with_key = """
import ctypes, os, sys
number = 248 if os.uname().machine == "x86_64" else 217
ctypes.CDLL(None).syscall(number, b"user", b"worker-test-secret", b"x", 1, -3)
os.execv(sys.argv[1], sys.argv[1:])
"""
    installation = install(tmp_path / "home")
    installation.command = [sys.executable, "-c", with_key, *installation.command]
    installation.worker("up")
    users = (("--user", "nobody"), ()) if os.geteuid() == 0 else ((),)
    sessions = set()
    for options in users:
        output = installation.run(
            "run", *options, "python3", "-c", KEYS
        ).stdout  # nobody may not reach ours
        seen = json.loads(output)
        if not seen["session"]:
            pytest.skip("this kernel has no keyrings (CONFIG_KEYS)")
        assert (False, True) == (seen["found"], seen["mine"])
        sessions.add(seen["session"])
    assert len(users) == len(sessions)
