"""What docs/how-to/backup-and-restore.md says about jobs that run during a backup."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from ..support.fixtures import Install
from ..support.installation import Installation


def copy(original: Installation, to: Path, jobs: str) -> Path:
    """Copy what the page names into a home that does not exist yet, beside a running server.

    ``jobs`` is a script that copies the jobs from $0 to $1.
    """
    to.mkdir(mode=0o700)
    with closing(sqlite3.connect(original.home / "journal.db")) as database:
        database.execute("VACUUM INTO ?", [str(to / "journal.db")])
    subprocess.run(["sh", "-c", jobs, original.home, to], check=True)
    return to


OUTPUT_ONLY = """
cd "$0" && find jobs -type f -name '*-[0-9]*' -not -name 'history*' -print0 |
tar -c --null -T - | tar -x -C "$1"
"""
WHOLE = 'cp -a "$0/jobs" "$1"'


def start_jobs(original: Installation) -> tuple[str, str]:
    """Start a job that ends, and one that has written a line and goes on."""
    ended = original.start("sh", "-c", "echo ended; exit 3")
    original.wait(ended)
    running = original.start("sh", "-c", "echo so far; exec sleep 100000")
    assert "so far\n" == original.worker("stream", "--tail", "1", "--until", "-1s", running)
    return ended, running


def test_running_jobs_are_not_restored(install: Install, shared: Installation, tmp_path: Path) -> None:
    """Without histories a restored server knows only jobs that had ended, and touches no other."""
    ended, running = start_jobs(shared)
    before = shared.query(running)
    restored = install(copy(shared, tmp_path / "restored", OUTPUT_ONLY))
    restored.worker("up")
    assert (3, b"ended\n") == (restored.query(ended)["exit_code"], restored.stream(ended))
    assert b"not found" in restored.run("query", running).stderr
    restored.down()
    assert before["pid"] == shared.query(running)["pid"]
    assert "running" == shared.query(running)["state"]


def test_running_jobs_are_lost_on_another_machine(
    install: Install, shared: Installation, tmp_path: Path
) -> None:
    """With histories, after a restart or on another machine, they are LOST, with their output so far."""
    ended, running = start_jobs(shared)
    home = copy(shared, tmp_path / "restored", WHOLE)
    history = home / "jobs" / running / "history"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    text = history.read_text()
    assert boot_id in text
    history.write_text(text.replace(boot_id, "00000000-0000-4000-8000-000000000000"))
    restored = install(home)
    restored.worker("up")
    facts = restored.wait(running)
    assert ("lost", "the machine restarted") == (facts["state"], facts["lost_reason"])
    assert b"so far\n" == restored.stream(running)
    assert b"ended\n" == restored.stream(ended)
