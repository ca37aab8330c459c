"""When output was written: timestamps and selection by time, of real jobs through the real command."""

import re
import subprocess
import time
from datetime import datetime

import pytest

LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([^\n]*\n?)")
EARLY = 1000
"""Milliseconds by which a timestamp may be too early: 100, and while the recorder waits for the CPU."""

# A job that prints the time of each write; it writes 30 lines a second, and a burst in the middle.
CLOCK = (
    "for i in $(seq 30); do date +%s%3N; sleep 0.03; done; seq -f 'x%06.0f' 30000; "
    "for i in $(seq 10); do date +%s%3N; sleep 0.03; done"
)


def timestamped(printed):
    """Return the time of each line in milliseconds, and the line."""
    assert printed == b"".join(match.group() for match in LINE.finditer(printed))
    return [
        (round(datetime.fromisoformat(match[1].decode()).timestamp() * 1000), match[2])
        for match in LINE.finditer(printed)
    ]


def check_clock(lines, until):
    """Each line that has the time of its write has a timestamp of the time at which it was recorded."""
    before = 0
    for recorded, line in lines:
        assert before <= recorded
        before = recorded
        if not line.startswith(b"x"):
            # It was recorded after it was written; how long after depends on the load of the machine.
            assert int(line) - EARLY <= recorded <= until


@pytest.fixture(scope="module")
def finished(shared):
    """A job that has finished, with all of its output and its end in milliseconds."""
    job = shared.start("sh", "-c", CLOCK)
    shared.wait(job)
    return job, time.time_ns() // 1_000_000


def test_timestamps_are_those_of_the_writes(shared, finished):
    """Each line has one, and without them the stream is the output."""
    job, ended = finished
    lines = timestamped(shared.worker("stream", "--timestamps", job).encode())
    assert shared.stream(job) == b"".join(line for _, line in lines)
    assert 30_040 == len(lines)
    check_clock(lines, ended)
    assert len({recorded for recorded, _ in lines}) >= 10


def test_since_and_until_select_lines(shared, finished):
    """The selected lines are those with such a timestamp; the job writes whole lines at once."""
    job, _ = finished
    lines = [each for each in timestamped(shared.run("stream", "-t", job).stdout) if each[1][:1] != b"x"]
    begin, end = lines[10][0], lines[-5][0]
    for since, until in ((begin, None), (None, end), (begin, end)):
        options = [] if since is None else ["--since", f"{since / 1000:.3f}"]
        options += [] if until is None else ["--until", f"{until / 1000:.3f}"]
        selected = timestamped(shared.run("stream", "-t", *options, job).stdout)
        expected = [
            each for each in lines if (since or 0) <= each[0] and (until is None or each[0] <= until)
        ]
        assert expected == [each for each in selected if not each[1].startswith(b"x")]
    assert b"" == shared.run("stream", "--since", "-1h", job).stdout
    assert b"" == shared.run("stream", "--until", "1h", job).stdout
    assert shared.stream(job) == shared.run("stream", "--since", "1h", "--until", "-1h", job).stdout


def test_a_tail_of_a_time(shared, finished):
    """The later start applies."""
    job, _ = finished
    last = timestamped(shared.run("stream", "-t", "--tail", "8", job).stdout)
    assert 8 == len(last)
    since = f"{last[-1][0] / 1000:.3f}"
    expected = [each for each in last if each[0] == last[-1][0]]
    assert expected == timestamped(shared.run("stream", "-t", "--tail", "8", "--since", since, job).stdout)
    assert last == timestamped(shared.run("stream", "-t", "--tail", "8", "--since", "1h", job).stdout)


def test_binary_output_without_a_last_newline(shared):
    """Only the prefixes are added."""
    job = shared.start("printf", r"\377\000\r\n\n\377")
    printed = timestamped(shared.run("stream", "-t", job).stdout)
    assert [b"\xff\0\r\n", b"\n", b"\xff"] == [line for _, line in printed]


def test_until_ends_the_stream_of_a_running_job(shared):
    """A stream that would follow the job ends at that time."""
    job = shared.start("sh", "-c", "echo before; sleep 1000")
    assert b"before\n" == shared.run("stream", "--until", "-500ms", job).stdout
    shared.worker("stop", job)


def test_the_kept_output_has_its_times(shared):
    """A bound discards output and its times; offsets and times of the rest stay right."""
    job = shared.start("--output-max", "256K", "sh", "-c", f"{CLOCK}; {CLOCK}; {CLOCK}")
    extent = shared.wait(job)["output"]["output"]
    ended = time.time_ns() // 1_000_000
    assert extent["first"] > 0
    streamed = shared.run("stream", "--timestamps", "--since", "1h", job)
    assert f"{extent['first']} bytes from offset 0 on are no longer kept" in streamed.stderr.decode()
    (first, fragment), *lines = timestamped(streamed.stdout)
    kept = shared.run("stream", "--offset", str(extent["first"]), job).stdout
    assert kept == fragment + b"".join(line for _, line in lines)
    check_clock(lines, ended)
    assert first <= lines[0][0]
    last = f"{lines[-1][0] / 1000:.3f}"
    expected = [each for each in lines if each[0] == lines[-1][0]]
    assert expected == timestamped(shared.run("stream", "-t", "--since", last, job).stdout)
    index = sum(path.stat().st_size for path in (shared.home / "jobs" / job).glob("output.times-*"))
    assert 0 < index <= (256 << 10) / 16 + 4096


def test_killed_recorders_leave_right_times(installation, tmp_path, until):
    """A recorder that is killed loses no output and makes no time wrong."""
    done = tmp_path / "done"
    job = installation.start("sh", "-c", f"while [ ! -e {done} ]; do date +%s%3N; sleep 0.005; done")
    for _ in range(5):
        before, recorder = len(installation.stream_now(job)), installation.recorder_pid()
        installation.kill(recorder)
        until(lambda: installation.recorder_pid() not in {0, recorder})  # noqa: B023 - called at once
        until(lambda: len(installation.stream_now(job)) > before)  # noqa: B023
    done.touch()
    installation.wait(job)
    ended = time.time_ns() // 1_000_000
    lines = timestamped(installation.run("stream", "-t", job).stdout)
    assert installation.stream(job) == b"".join(line for _, line in lines)
    check_clock(lines, ended)


def test_a_job_of_an_earlier_version(installation):
    """Its output has no times: a stream that needs them fails with the reason, and others work."""
    job = installation.start("echo", "hi")
    installation.wait(job)
    for index in (installation.home / "jobs" / job).glob("*.times-*"):
        index.unlink()
    for option in (["--timestamps"], ["--since", "1h"], ["--until", "1h"]):
        failed = installation.run("stream", *option, job)
        assert b"it is not known when the output before byte 3 was written" in failed.stderr
        assert (b"", 1) == (failed.stdout, failed.returncode)
    assert b"hi\n" == installation.stream(job)


def test_the_command_for_the_rest_keeps_the_times(installation, tmp_path, until):
    """A stream that breaks names the command that continues with timestamps, in the same selection."""
    done = tmp_path / "done"
    job = installation.start(
        "sh", "-c", f"echo first; while [ ! -e {done} ]; do sleep 0.05; done; echo last"
    )
    until(lambda: installation.stream_now(job))
    options = ["--reconnect", "0", "-t", "--until", "2100-01-01T00:00:00Z"]
    streaming = subprocess.Popen(
        [*installation.command, "stream", *options, job],
        env=installation.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert streaming.stdout.readline().endswith(b"Z first\n")
    installation.kill(installation.server_pid())
    _, message = streaming.communicate()
    rest = f"worker stream {job} --offset 6 --until 2100-01-01T00:00:00.000Z --timestamps"
    assert message.decode().endswith(f"to resume from here: {rest}\n")
    installation.worker("up")
    done.touch()
    (line,) = timestamped(installation.run(*rest.split()[1:]).stdout)
    assert b"last\n" == line[1]
