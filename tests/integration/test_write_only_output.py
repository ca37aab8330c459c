"""stdout and stderr of a job behave like the write end of a pipe, whichever of our processes dies."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.installation import Installation

Until = Callable[[Callable[[], bool]], None]

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")

ASYNCIO_WRITER = """
import asyncio, sys
async def main():
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    for row in range(50):
        transport.write(b"row %d\\n" % row)
        await asyncio.sleep(0.005)
    transport.close()
asyncio.run(main())
"""

ASYNCIO_STREAM_WRITER = """
import asyncio, sys
async def main():
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    for row in range(50):
        writer.write(b"row %d\\n" % row)
        await writer.drain()
        await asyncio.sleep(0.005)
    transport.close()
asyncio.run(main())
"""


def run(installation: Installation, program: str, *options: str) -> bytes:
    """Run a Python program as a job, and return its output."""
    done = installation.run("run", *options, sys.executable, "-c", program)
    assert 0 == done.returncode, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("program", [ASYNCIO_WRITER, ASYNCIO_STREAM_WRITER])
def test_asyncio_writes_to_stdout(shared: Installation, program: str) -> None:
    """Every row arrives: asyncio takes a readable pipe for one whose reader has closed it."""
    assert b"".join(b"row %d\n" % row for row in range(50)) == run(shared, program)


def test_reading_from_stdout(shared: Installation) -> None:
    """Stdout and stderr cannot be read."""
    program = """
import os
for fd in (1, 2):
    try:
        os.read(fd, 1)
    except OSError as error:
        os.write(1, b"%d\\n" % error.errno)
"""
    assert b"9\n9\n" == run(shared, program)


def test_non_blocking_stdout(shared: Installation) -> None:
    """O_NONBLOCK of stdout does not affect stderr: each has an open file description of its own."""
    program = "import os; os.set_blocking(1, False); os.write(1, b'%d' % os.get_blocking(2))"
    assert b"1" == run(shared, program)


REOPEN = """
import os, sys
def attempt(flags):
    try:
        os.close(os.open("/dev/stdout", flags | os.O_NONBLOCK))
        return "opened"
    except PermissionError:
        return "refused"
report = [attempt(os.O_WRONLY), attempt(os.O_RDONLY)]
print(*report)
"""


def test_the_same_user_reopens_stdout(shared: Installation) -> None:
    """A process of the worker's own user can open /dev/stdout for writing, and also for reading."""
    assert b"opened opened\n" == run(shared, REOPEN)


@AS_ROOT
def test_another_user_reopens_stdout(shared: Installation) -> None:
    """A process of another user can open it for writing, but not for reading: it cannot take output."""
    become = "import os; os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
    assert b"opened refused\n" == run(shared, become + REOPEN)


OUTLIVE = """
import os, signal, sys
gate, report = sys.argv[1:]
signal.signal(signal.SIGPIPE, signal.SIG_DFL if "default" in report else signal.SIG_IGN)
os.write(1, b"before\\n")
while not os.path.exists(gate):
    signal.sigtimedwait([], 0.02)
try:
    os.write(1, b"after\\n")
    result = "written"
except BrokenPipeError:
    result = "EPIPE"
if os.fork() == 0:
    signal.alarm(1)  # ends the open if it blocks
    os.open("/dev/stderr", os.O_WRONLY)
    os._exit(0)
_, status = os.wait()
with open(report + ".new", "w") as file:
    print(result, "opened" if status == 0 else "open blocks", file=file)
os.rename(report + ".new", report)
"""


def outlive(
    installation: Installation, tmp_path: Path, until: Until, *, killed: list[str]
) -> tuple[str, bytes]:
    """Kill some of our processes while a job runs; return what it reports, and its recorded output."""
    gate, report = tmp_path / "gate", tmp_path / "report"
    job = installation.start(sys.executable, "-c", OUTLIVE, str(gate), str(report))
    until(lambda: installation.stream_now(job) == b"before\n")
    pids = {
        "server": installation.server_pid(),
        "supervisor": installation.supervisor_pid(),
        "recorder": installation.recorder_pid(),
        "zygote": installation.zygote_pid(),
    }
    for role in killed:
        installation.kill(pids[role])
    gate.touch()
    until(report.exists)
    installation.worker("up")
    installation.wait(job)
    return report.read_text().strip(), installation.stream(job)


def test_only_the_zygote_is_left(installation: Installation, tmp_path: Path, until: Until) -> None:
    """It holds the FIFO: what the job writes is recorded after the next start of the server."""
    report, output = outlive(installation, tmp_path, until, killed=["server", "supervisor", "recorder"])
    assert ("written opened", b"before\nafter\n") == (report, output)


def test_none_of_our_processes_is_left(installation: Installation, tmp_path: Path, until: Until) -> None:
    """A write fails with EPIPE (by default SIGPIPE ends the process), and an open of /dev/stderr blocks."""
    killed = ["server", "supervisor", "recorder", "zygote"]
    report, output = outlive(installation, tmp_path, until, killed=killed)
    assert ("EPIPE open blocks", b"before\n") == (report, output)
