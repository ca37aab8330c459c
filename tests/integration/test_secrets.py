"""Secrets of jobs: files in memory that only the job's user can read, and that are nowhere else."""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from worker import JobSpec
from worker.cli.doctor.file_system import file_system
from worker.client.errors import RpcError

from ..support.fixtures import Install
from ..support.installation import Installation
from ..support.unprivileged import can_become_unprivileged, unprivileged_installation

Until = Callable[[Callable[[], bool]], None]

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")

SECRET = "correct horse battery staple"
SHOW = 'echo "$CREDENTIALS_DIRECTORY"; cat "$CREDENTIALS_DIRECTORY"/password; sleep 1000'


@pytest.fixture
def option(tmp_path: Path) -> str:
    """The value of --secret for a secret called password."""
    file = tmp_path / "file"
    file.write_text(f"{SECRET}\n")
    return f"password={file}"


def directory_of(worker: Installation, job: str, until: Until) -> Path:
    """Return the directory with the secrets of a job that shows it."""
    until(lambda: worker.stream_now(job).count(b"\n") == 2)
    directory, secret = worker.stream_now(job).decode().splitlines()
    assert SECRET == secret
    return Path(directory)


@AS_ROOT
def test_only_the_user_of_the_job_can_read_it(shared: Installation, option: str, until: Until) -> None:
    """Files with mode 0400 in a directory with 0500, in memory and of the user; others see nothing."""
    job = shared.start("--user", "nobody", "--secret", option, "sh", "-c", SHOW)
    directory = directory_of(shared, job, until)
    for path, mode in ((directory, 0o500), (directory / "password", 0o400)):
        found = path.stat()
        assert (65534, 65534, mode) == (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))
    assert "tmpfs" == file_system(directory).kind
    probe = f"ls {directory.parent}; ls {directory}; cat {directory}/password"
    assert b"" == shared.run("run", "--user", "54321", "sh", "-c", probe).stdout
    shared.worker("stop", job)
    assert not directory.exists()


def test_it_is_nowhere_else(install: Install, tmp_path: Path, option: str, until: Until) -> None:
    """Neither journal, history, spools, output, logs at debug level, nor answers have it."""
    worker = install(tmp_path / "home")
    worker.env["WORKER_LOG_LEVEL"] = "debug"
    worker.worker("up")
    hidden = SHOW.replace("cat", "cat >/dev/null")
    job = worker.start("--secret", option, "--request-id", "r1", "sh", "-c", hidden)
    assert job == worker.start("--secret", option, "--request-id", "r1", "sh", "-c", hidden)
    until(lambda: b"\n" in worker.stream_now(job))
    shown = worker.worker("query", "-o", "json", job) + worker.worker("list", "-o", "json")
    assert SECRET not in shown + worker.worker("debug", job)
    worker.worker("stop", job)
    files = [path for path in worker.home.rglob("*") if path.is_file()]
    assert {"journal.db", "journal.db-wal", "log", "server.log"} <= {path.name for path in files}
    assert [] == [path for path in files if SECRET.encode() in path.read_bytes()]


def test_it_is_deleted_whichever_process_dies(
    installation: Installation, option: str, until: Until
) -> None:
    """At the end of the job by the next supervisor; by the next server, if no supervisor was there."""
    job = installation.start("--secret", option, "sh", "-c", SHOW)
    directory = directory_of(installation, job, until)
    installation.kill(installation.supervisor_pid())
    installation.worker("query", job)
    assert (directory / "password").exists()
    installation.worker("stop", job)
    assert not directory.exists()
    job = installation.start("--secret", option, "sh", "-c", SHOW)
    directory = directory_of(installation, job, until)
    main = os.pidfd_open(int(str(installation.query(job)["pid"])))
    for pid in (installation.server_pid(), installation.supervisor_pid()):
        installation.kill(pid)
    signal.pidfd_send_signal(main, signal.SIGKILL)
    installation.await_pidfd(main)
    installation.worker("up")
    installation.wait(job)
    until(lambda: not directory.exists())


@AS_ROOT
def test_what_a_job_puts_beside_it_is_deleted(shared: Installation, option: str, until: Until) -> None:
    """Also directories and links, which are not followed; a start that fails leaves nothing."""
    kept = shared.home / "address"
    litter = f'cd "$CREDENTIALS_DIRECTORY"; chmod 700 .; mkdir a; ln -s {kept} link; ln -s / a/root; {SHOW}'
    job = shared.start("--user", "nobody", "--secret", option, "sh", "-c", litter)
    directory = directory_of(shared, job, until)
    assert (directory / "a" / "root").is_symlink()
    shared.worker("stop", job)
    assert not (directory / "password").exists()
    until(lambda: not directory.exists())
    assert kept.exists()
    shared.worker("start", "--secret", option, "/nonexistent", code=1)
    assert [] == list(directory.parent.iterdir())


async def test_what_is_refused(shared: Installation) -> None:
    """Names that are not those of files, and more than 64 KiB each or 1 MiB in total."""
    large = bytes(65536)
    async with shared.client() as client:
        for secrets, reason in (
            ({"../a": b""}, "secrets: '../a'"),
            ({"": b""}, "secrets: ''"),
            ({"a": large + b"."}, "secrets.a: 65537 bytes; must be at most 64K"),
            ({f"a{number}": large for number in range(17)}, "secrets: 1114112 bytes in total"),
        ):
            with pytest.raises(RpcError) as refusal:
                await client.start(JobSpec("true"), secrets=secrets)
            assert ("InvalidArgument", True) == (
                refusal.value.code,
                refusal.value.message.startswith(reason),
            )
        largest = {f"a{number}": large for number in range(16)}
        job = await client.start(
            JobSpec("sh", ["-c", 'cat "$CREDENTIALS_DIRECTORY"/* | wc -c']), secrets=largest
        )
    assert b"1048576\n" == shared.stream(str(job))


@pytest.mark.skipif(not can_become_unprivileged(), reason="only root can become another user")
def test_a_worker_without_root(option: str, until: Until) -> None:
    """Its jobs get secrets too, in a directory of its own."""
    with unprivileged_installation() as worker:
        secret = worker.home / "secret"
        worker.worker("run", "sh", "-c", f"echo '{SECRET}' > {secret}")
        job = worker.start("--secret", f"password={secret}", "sh", "-c", SHOW)
        directory = directory_of(worker, job, until)
        assert 0o500 == stat.S_IMODE(directory.stat().st_mode)
        worker.worker("stop", job)
        assert not directory.exists()
