"""The audit log of a whole worker: its file, rotation, full disks, and jobs that end without a server."""

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..support.audit_page import PAGE, assert_documented
from ..support.fixtures import Install
from ..support.installation import Installation
from ..support.mounts import fill
from ..support.waiting import wait_until

Record = dict[str, Any]


def records(path: Path) -> list[Record]:
    """Return the records in a file; each line is complete."""
    text = path.read_text("ascii")
    assert not text or text.endswith("\n")
    return [json.loads(each) for each in text.splitlines()]


def named(installation: Installation, *events: str) -> list[Record]:
    """Return the records of some events."""
    return [each for each in records(installation.home / "audit.log") if each["event"] in events]


def until(installation: Installation, condition: Callable[[Record], bool]) -> Record:
    """Wait until there is a record, and return it."""
    found: list[Record] = []

    def look() -> bool:
        found[:] = [each for each in records(installation.home / "audit.log") if condition(each)]
        return bool(found)

    wait_until(look)
    return found[0]


def test_commands_are_recorded(shared: Installation) -> None:
    """The file is in WORKER_HOME, only its owner may read it, and it has what `worker` commands did."""
    path = shared.home / "audit.log"
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    job = shared.start("sh", "-c", "echo --token=abc; exit 3")
    shared.wait(job)
    assert b"--token=abc\n" == shared.stream(job)
    shared.worker("remove", job)
    about = [each for each in records(path) if each.get("job") == job]
    events = [(each["event"], each.get("method")) for each in about]
    assert {
        ("job_started", None),
        ("job_ended", None),
        ("outcome", "Start"),
        ("decision", "Stream"),
        ("outcome", "Stream"),
        ("decision", "Remove"),
        ("outcome", "Remove"),
    } == set(events)
    started, ended = (
        next(each for each in about if each["event"] == f"job_{name}") for name in ("started", "ended")
    )
    assert ["sh", "-c", "echo --token=[redacted]; exit 3"] == started["command"]
    assert (3, 12, "none") == (ended["exit_code"], ended["output"], ended["cause"])
    (sent,) = [
        each["sent"] for each in about if each.get("method") == "Stream" and each["event"] == "outcome"
    ]
    assert 12 == sent
    assert named(shared, "server_started")[0]["pid"] == shared.server_pid()


def test_reopening(shared: Installation) -> None:
    """After SIGHUP the server writes to a new file, as logrotate(8) needs it."""
    path, moved = shared.home / "audit.log", shared.home / "audit.log-20260101"
    path.rename(moved)
    before = moved.stat().st_size
    job = shared.start("true")
    assert moved.stat().st_size > before
    os.kill(shared.server_pid(), signal.SIGHUP)
    wait_until(path.exists)
    until(shared, lambda each: each["event"] == "reloaded")
    shared.worker("remove", job, code=None)
    assert job in path.read_text()
    moved.unlink()


def test_the_commands_of_the_page(shared: Installation) -> None:
    """Each grep(1) of docs/how-to/audit.md finds records, and all records have the fields of its table."""
    job = shared.start("true")
    certificate = ["--cert", f"{shared.home}/pki/reader.crt", "--key", f"{shared.home}/pki/reader.key"]
    assert shared.run("stop", *certificate, job).returncode
    commands = re.findall(r"^\$ (grep .*)$", PAGE, re.MULTILINE)
    assert 3 == len(commands)
    (example,) = set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", PAGE))
    for command in commands:
        local = command.replace("/var/lib/worker", str(shared.home)).replace(example, job)
        done = subprocess.run(["sh", "-c", local], capture_output=True, check=True)
        assert_documented(map(json.loads, done.stdout.splitlines()))
    assert_documented(records(shared.home / "audit.log"))


def test_the_doctor_reports_the_log(shared: Installation) -> None:
    """It is among the findings."""
    findings = json.loads(shared.worker("doctor", "-o", "json", code=None))["findings"]
    assert ["ok"] == [each["verdict"] for each in findings if each["subject"] == "audit log"]


def test_jobs_that_end_without_a_server(installation: Installation, tmp_path: Path) -> None:
    """The next server records their end with its true time, and which jobs go on."""
    gate = tmp_path / "gate"
    ends = installation.start("sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 5")
    stays = installation.start("sleep", "1000")
    installation.kill(installation.server_pid())
    gate.touch()
    history = installation.home / "jobs" / ends / "history"
    wait_until(lambda: '"end"' in history.read_text())
    installation.worker("up")
    end = until(installation, lambda each: each["event"] == "job_ended" and each["job"] == ends)
    restarted = named(installation, "server_started")[-1]
    assert 5 == end["exit_code"]
    assert end["started_at"] < end["ended_at"] < restarted["time"] < end["time"]
    assert {ends, stays} == {each["job"] for each in named(installation, "job_recovered")}
    installation.worker("stop", "--grace", "0", stays)
    stopped = until(installation, lambda each: each["event"] == "job_ended" and each["job"] == stays)
    assert "stopped" == stopped["cause"]
    assert 1 == sum(each["job"] == ends for each in named(installation, "job_ended"))


async def test_rotation_under_load(tmp_path: Path, install: Install) -> None:
    """No record is lost while the server rotates the file and another program moves it away."""
    installation = install(tmp_path / "home")
    installation.worker("up", "--audit-reads", "yes", "--audit-size", "20K", "--audit-keep", "1000")
    path, server = installation.home / "audit.log", installation.server_pid()
    running = True

    async def call() -> None:
        async with installation.client() as client:
            while running:
                await client.list()

    calls = [asyncio.create_task(call()) for _ in range(4)]
    for number in range(5):
        rotated = path.with_name(f"audit.log.{3 * number + 3}")
        while not rotated.exists():
            await asyncio.sleep(0.01)
        path.rename(path.with_name(f"moved-{number}"))
        os.kill(server, signal.SIGHUP)
    running = False
    await asyncio.gather(*calls)
    installation.worker("down")
    files = [path, *path.parent.glob("audit.log.*"), *path.parent.glob("moved-*")]
    found = [each for file in files if file.stat().st_size for each in records(file)]
    numbers = {
        event: sorted(int(each["id"].partition("-")[2]) for each in found if each["event"] == event)
        for event in ("decision", "outcome")
    }
    assert list(range(1, len(numbers["decision"]) + 1)) == numbers["decision"] == numbers["outcome"]
    assert "records_lost" not in {each["event"] for each in found}


@pytest.mark.parametrize("failure", ["continue", "refuse"])
def test_a_full_disk(small_disk: Path, tmp_path: Path, install: Install, failure: str) -> None:
    """The setting decides what is refused; stop, remove and a reload work; log and doctor report it."""
    installation = install(tmp_path / "home")
    path = small_disk / "audit.log"
    installation.worker("up", "--audit", str(path), "--audit-failure", failure)
    job = installation.start("sleep", "1000")
    filler = fill(small_disk)
    while installation.run("start", "true").returncode == 0 and failure == "refuse":
        pass  # until the last page of the file is full
    done = installation.run("start", "true")
    if failure == "refuse":
        assert done.stderr.endswith(
            b"the audit log cannot be written: No space left on device (setting audit_failure)\n"
        )
    assert (failure == "refuse") == bool(done.returncode)
    for change in (("update", "--pids", "50", job), ("signal", job, "CONT"), ("pause", job)):
        done = installation.run(*change)
        assert (failure == "refuse") == (b"(setting audit_failure)" in done.stderr) == bool(done.returncode)
    assert "running" == installation.query(job)["state"] or failure == "continue"
    os.kill(installation.server_pid(), signal.SIGHUP)
    log = installation.home / "server.log"
    wait_until(lambda: "certificates were reloaded" in log.read_text())
    installation.worker("stop", "--grace", "0", job)
    installation.worker("remove", job)
    assert "the audit log cannot be written" in (installation.home / "server.log").read_text()
    findings = json.loads(installation.worker("doctor", "-o", "json", code=None))["findings"]
    assert ["warning"] == [each["verdict"] for each in findings if each["subject"] == "audit log"]
    filler.unlink()
    again = installation.start("true")
    found = records(path)
    assert "records_lost" in {each["event"] for each in found}
    assert again in {each.get("job") for each in found}


def test_a_log_that_cannot_be_opened(tmp_path: Path, install: Install) -> None:
    """The server does not start, and says which setting is wrong."""
    installation = install(tmp_path / "home")
    done = installation.run("up", "--audit", f"{tmp_path}/no/audit.log")
    assert done.returncode
    reason = (
        f"cannot open the audit log: {tmp_path}/no/audit.log: No such file or directory (setting audit)"
    )
    assert reason in done.stderr.decode()


def test_stdout(tmp_path: Path, install: Install) -> None:
    """A server in the foreground writes the records to its stdout, for the log of a container."""
    installation = install(tmp_path / "home")
    installation.home.mkdir(mode=0o700, exist_ok=True)
    with subprocess.Popen(
        [*installation.command, "serve", "--audit", "stdout"],
        env=installation.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdout is not None
        assert "server_started" == json.loads(server.stdout.readline())["event"]
        wait_until((installation.home / "address").exists)
        job = installation.start("true")
        installation.wait(job)
        server.terminate()
        events = [json.loads(each)["event"] for each in server.stdout]
    assert "server_stopped" == events[-1]
    assert {"decision", "outcome", "job_started", "job_ended", "connection_opened"} <= set(events)
    assert not (installation.home / "audit.log").exists()
