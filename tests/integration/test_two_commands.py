"""The command from `up` to `down`, when interrupted, disconnected or in conflict with another server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "docs" / "demo.sh"

UNKNOWN = "b58476f2-9479-445b-898d-29eeaf905a47"


def begin(installation, *arguments, **redirected):
    """Start a command, and return the process."""
    return subprocess.Popen(
        [sys.executable, "-m", "worker.cli.main", *arguments],
        env=installation.env,
        stdin=subprocess.DEVNULL,
        stdout=redirected.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **redirected,
    )


def finish(process):
    """Return the exit status and the remaining output of a command."""
    out, err = process.communicate(timeout=60)
    return process.returncode, (out or b"").decode(), err.decode()


def test_the_lines_of_the_design(shared):
    """Start, wait, query, stream, remove and stop print exactly the lines in the design."""
    started = shared.worker("start", "echo", "hi")
    job = started.split()[1]
    assert f"Job {job} is started\n" == started
    assert "0\n" == shared.worker("wait", job)
    assert re.fullmatch(r"Pid: [1-9]\d* Exit code: 0 Exited: true\n", shared.worker("query", job))
    assert "hi\n" == shared.worker("stream", job)
    assert f"Job {job} has been removed\n" == shared.worker("remove", job)
    sleeper = shared.start("sleep", "1000")
    assert f"Job {sleeper} has been stopped\n" == shared.worker("stop", sleeper)
    assert "143\n" == shared.worker("wait", sleeper)


def test_list_filters_by_label_and_state(shared):
    """--label selects jobs with the label, --running those that have not finished."""
    over = shared.start("--label", "list=test", "true")
    shared.worker("wait", over)
    running = shared.start("--label", "list=test", "sleep", "1000")
    labeled = json.loads(shared.worker("list", "--label", "list=test", "-o", "json"))
    assert [running, over] == [job["id"] for job in labeled]
    lines = shared.worker("list", "--running", "--label", "list=test").splitlines()
    assert ["JOB", running] == [line.split()[0] for line in lines]
    assert lines[1].endswith("sleep 1000")
    shared.worker("stop", running)


def test_up_is_idempotent(installation):
    """A running server is not changed, and its address is printed."""
    address = (installation.home / "address").read_text().strip()
    assert f"worker is already up at {address}\n" == installation.worker("up")
    done = installation.run("up", "--listen", "127.0.0.1:0")
    assert b"worker: it keeps the options with which it was started" in done.stderr
    assert (installation.home / "address").read_text().strip() == address


def test_up_says_which_options_the_last_server_had(installation, tmp_path):
    """A server without the policy or the user of the last one starts, with a note that names them."""
    policy = tmp_path / "the policy.toml"
    policy.write_text('[[rule]]\nname = "all"\nclients = ["*"]\ncalls = ["read"]\n')
    options = ["--policy", str(policy), "--default-user", "nobody"]
    installation.worker("down")
    assert b"" == installation.run("up", *options).stderr
    installation.worker("down")
    options_shown = f"--policy '{policy}' --default-user nobody"
    assert (
        f"worker: the last `worker up` had {options_shown}, and this one has not; for a server with the "
        f"same options: `worker down`, then `worker up {options_shown}`\n"
    ) == installation.run("up").stderr.decode()
    installation.worker("down")
    assert b"" == installation.run("up").stderr


def test_an_unreadable_record_of_the_last_options_keeps_no_server_down(installation):
    """What `up` notes of itself is no condition of a start."""
    installation.worker("down")
    (installation.home / "last-up").write_text("{")
    done = installation.run("up")
    assert (0, b"") == (done.returncode, done.stderr)


def test_two_at_once_start_one_server(installation):
    """The second `up` waits for the first, and finds its server."""
    assert "worker is down\n" == installation.worker("down")
    both = sorted(finish(each)[:2] for each in [begin(installation, "up"), begin(installation, "up")])
    address = (installation.home / "address").read_text().strip()
    assert [
        (0, f"worker is already up at {address}\n"),
        (0, f"worker is up at {address}\ntry: worker run hostname\n"),
    ] == both


def test_down_is_idempotent(installation):
    """Without a server, `down` succeeds and does nothing."""
    assert "worker is down\n" == installation.worker("down")
    assert "worker is not up\n" == installation.worker("down")
    done = installation.run("list")
    assert 1 == done.returncode
    assert b"connection refused; `worker up` starts a server\n" in done.stderr


def test_jobs_outlive_the_server(installation):
    """`down` prints how many jobs keep running; --jobs stops them first."""
    first, second = installation.start("sleep", "1000"), installation.start("sleep", "1000")
    assert [
        "worker is down",
        "2 jobs keep running; `worker up` finds them again, `worker down --jobs` stops them",
    ] == installation.worker("down").splitlines()
    installation.worker("up")
    assert {"running"} == {installation.query(job)["state"] for job in (first, second)}
    assert "worker is down\n" == installation.worker("down", "--jobs")
    installation.worker("up")
    assert {143} == {installation.query(job)["exit_code"] for job in (first, second)}


def test_a_busy_port_is_left_to_its_owner(installation):
    """If the port is in use, `up` takes a free one and records it, `serve` fails with the reason."""
    installation.worker("down")
    with socket.create_server(("127.0.0.1", 0)) as owner:
        busy = f"127.0.0.1:{owner.getsockname()[1]}"
        done = installation.run("serve", "--listen", busy)
        assert (1, True) == (
            done.returncode,
            done.stderr.decode().endswith(f"cannot listen at {busy}: Address already in use\n"),
        )
        assert busy not in installation.worker("up", "--listen", busy)
        assert "worker is already up at " in installation.worker("up")
        assert "[]\n" == installation.worker("list", "-o", "json")


def test_a_second_server_is_rejected(installation):
    """A home has one server; the error of a second one has the pid of the first."""
    done = installation.run("serve")
    assert (
        1,
        f"worker: another server uses {installation.home}: process {installation.server_pid()}\n",
    ) == (
        done.returncode,
        done.stderr.decode(),
    )


def test_a_server_that_cannot_start_reports_the_reason(installation):
    """`up` prints the last log lines of the server, and leaves nothing running."""
    installation.worker("down")
    done = installation.run("up", "--limiter", "nonesuch")
    assert (1, b"") == (done.returncode, done.stdout)
    assert "the server did not start; " in done.stderr.decode()
    assert "there is no limiter 'nonesuch'; valid: auto, cgroups, none\n" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert 0 == installation.server_pid()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_shuts_down_on_a_signal(installation, number):
    """SIGTERM and Ctrl-C shut the server down; streams get an error, and jobs keep running."""
    installation.worker("down")
    server = begin(installation, "serve")
    for line in server.stderr:
        if b"listening at" in line:
            break
    job = installation.start("sh", "-c", "echo before; sleep 1000")
    stream = begin(installation, "stream", "--reconnect", "0", job)
    assert b"before\n" == stream.stdout.readline()
    server.send_signal(number)
    assert 0 == finish(server)[0]
    status, _, err = finish(stream)
    assert 1 == status
    assert err.startswith("worker: the server is shutting down; ")
    installation.worker("up")
    assert "running" == installation.query(job)["state"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["--timeout", "100ms", "sleep", "1000"], 143),
        (["no-such-command-anywhere"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
        ([""], 125),
        (["--user", "no-such-user-anywhere", "true"], 125),
    ],
)
def test_run_ends_as_the_job_did(shared, arguments, status):
    """The exit status is the job's exit code, or 127, 126 or 125 if it did not start."""
    done = shared.run("run", *arguments)
    assert status == done.returncode, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_second_interrupt_kills_the_job(shared):
    """A second Ctrl-C kills the job before the grace has elapsed."""
    run = begin(
        shared,
        "run",
        "--grace",
        "1h",
        "sh",
        "-c",
        "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done",
    )
    assert b"ready\n" == run.stdout.readline()
    run.send_signal(signal.SIGINT)
    assert b"no\n" in iter(run.stdout.readline, b"")
    run.send_signal(signal.SIGINT)
    assert 130 == finish(run)[0]
    assert "[]\n" == shared.worker("list", "--running", "-o", "json")


def test_interrupting_stream_does_not_stop_the_job(shared):
    """Ctrl-C ends the stream; the job keeps running."""
    job = shared.start("sh", "-c", "echo ready; sleep 1000")
    stream = begin(shared, "stream", job)
    assert b"ready\n" == stream.stdout.readline()
    stream.send_signal(signal.SIGINT)
    status, out, err = finish(stream)
    assert (130, "", "") == (status, out, err.strip())
    assert "running" == shared.query(job)["state"]
    shared.worker("stop", job)


def test_a_closed_pipe_ends_without_a_message(shared):
    """As with `yes | head`, there is no message; `run` stops its job, `stream` does not."""
    job = shared.start("yes")
    for arguments in (["stream", job], ["run", "yes"]):
        process = begin(shared, *arguments)
        assert b"y\n" == process.stdout.readline()
        process.stdout.close()
        assert b"" == process.stderr.read()
        assert 141 == process.wait(timeout=60)
        process.stderr.close()
    assert [job] == [each["id"] for each in json.loads(shared.worker("list", "--running", "-o", "json"))]
    shared.worker("stop", job)


def test_a_slow_reader_gets_every_byte(shared):
    """A slow reader of the pipe gets all output."""
    job = shared.start("seq", "1", "300000")
    shared.worker("wait", job)
    read, write = os.pipe()
    stream = begin(shared, "stream", job, stdout=write)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as pipe:
        received = b"".join(iter(lambda: pipe.read(1000), b""))
    assert 0 == finish(stream)[0]
    assert "".join(f"{number}\n" for number in range(1, 300001)).encode() == received


def test_a_reader_cannot_start_jobs(shared):
    """With a reader's certificate, a job can be streamed but not started."""
    job = shared.start("echo", "hi")
    pki = shared.home / "pki"
    reader = ["--cert", str(pki / "reader.crt"), "--key", str(pki / "reader.key")]
    assert "hi\n" == shared.worker("stream", *reader, job)
    done = shared.run("start", *reader, "true")
    assert 1 == done.returncode
    assert done.stderr.startswith(b"worker: Start requires a role with the right to write; ")


def test_certificates_of_another_ca(shared, tmp_path):
    """A server that rejects the certificate is distinguished from one that is not running."""
    other = {**shared.env, "WORKER_HOME": str(tmp_path / "other")}
    subprocess.run(
        [sys.executable, "-m", "worker.cli.main", "certs", "init", "--key-type", "p256"],
        env=other,
        check=True,
        capture_output=True,
    )
    pki = tmp_path / "other" / "pki"
    done = shared.run("list", "--cert", str(pki / "writer.crt"), "--key", str(pki / "writer.key"))
    assert 1 == done.returncode
    assert b"it rejects this client's certificate: " in done.stderr
    assert b"; its issuer is 'CN=worker CA" in done.stderr
    assert 1 == done.stderr.count(b"\n")


def test_keys_are_never_overwritten(shared, tmp_path):
    """A second `certs init` fails with the path of the CA; `certs issue` adds a client."""
    home = {**shared.env, "WORKER_HOME": str(tmp_path / "keys")}

    def certs(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "worker.cli.main", "certs", *arguments, "--key-type", "p256"],
            env=home,
            capture_output=True,
            text=True,
            check=False,
        )

    made = json.loads(certs("init", "--host", "worker.example", "-o", "json").stdout)
    assert ["ca", "server", "writer", "reader"] == [Path(each["certificate"]).stem for each in made]
    assert {0o600} == {Path(each["key"]).stat().st_mode & 0o777 for each in made}
    again = certs("init")
    assert (1, f"worker: {tmp_path}/keys/pki/ca.crt exists; a CA is never overwritten\n") == (
        again.returncode,
        again.stderr,
    )
    added = certs("issue", "alice", "--role", "reader")
    assert 0 == added.returncode, added.stderr
    assert added.stdout.startswith(f"{tmp_path}/keys/pki/alice.crt and alice.key, valid until ")


@pytest.mark.parametrize("verb", ["query", "stop", "stream"])
def test_unknown_jobs_are_reported_as_by_the_api(shared, verb):
    """The commands of the original design print its line on stderr, and the exit status is 1."""
    done = shared.run(verb, UNKNOWN)
    assert (1, b"", f"rpc error: code = NotFound desc = Job {UNKNOWN} not found\n") == (
        done.returncode,
        done.stdout,
        done.stderr.decode(),
    )


def test_the_demo(tmp_path):
    """`make demo` shows a job from start to end for a new user, and cleans up."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run([DEMO], env=env, capture_output=True, text=True, check=False, timeout=300)
    assert 0 == done.returncode, done.stderr
    assert ["up", "start", "stream", "query", "down"] == re.findall(
        r"^\$ worker (\w+)", done.stdout, re.MULTILINE
    )
    assert "\nusr\n" in done.stdout
    assert "Exit code: 0 Exited: true\n$ worker down\nworker is down\n" in done.stdout
    assert [] == list(tmp_path.iterdir())
