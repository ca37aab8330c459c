"""What commands print when they fail: sentences for people, JSON for scripts, the lines of the original."""

import json
import os
import subprocess
from dataclasses import dataclass
from uuid import uuid4

import click
import pytest

from worker.api.invitation_token import new_token
from worker.cli.main import COMMANDS, run

UNKNOWN = str(uuid4())
LIST = "`worker list` prints all jobs"


@pytest.fixture(scope="module")
def jobs(shared):
    """Two jobs that have finished, and one that runs, by their names."""
    found = {name: shared.start("--name", name, "true") for name in ("done", "other")}
    shared.worker("wait", *found)
    return {**found, "long": shared.start("--name", "long", "sleep", "1000")}


def commands(*parameters):
    """Return the commands that have one of these parameters; those that are added later too."""
    loaded = {each.name: each.load() for each in COMMANDS}
    return {
        name: command
        for name, command in loaded.items()
        if {each.name for each in command.params} & set(parameters)
    }


ARGUMENTS = {"signal": ["HUP"], "update": ["--pids", "9"]}
"""What a command needs besides jobs."""

OF_JOBS = commands("job", "references")
ANSWERS = {"doctor", "debug", "version"}
"""Commands that report a server that cannot be reached as what they have found."""


@dataclass
class Done:
    """What a command has printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def typed(shared, monkeypatch, capfd):
    """Run a command line in this process, which takes a tenth of the time of a process for each."""
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    for name in ("WORKER_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, shared.env[name])

    def run_line(*line):
        capfd.readouterr()
        status = run(line)
        return Done(status, *capfd.readouterr())

    return run_line


def error_of(done):
    """Return exit status, code and message of a command with -o json, which has printed nothing else."""
    assert "" == done.stdout
    (line,) = done.stderr.splitlines()
    found = json.loads(line)
    assert ["error"] == list(found)
    assert ["code", "message"] == list(found["error"])
    return done.returncode, *found["error"].values()


def arguments_of(name, *jobs):
    """Return a command line with these jobs."""
    options, argument = ([], ARGUMENTS[name]) if name == "signal" else (ARGUMENTS.get(name, []), [])
    return [name, *options, *jobs, *argument]


@pytest.mark.parametrize("name", OF_JOBS)
@pytest.mark.parametrize("job", [UNKNOWN, "nope", "", "@last"], ids=["id", "name", "empty", "last"])
def test_an_unknown_job(typed, shared, name, job):
    """Every command names the job and says what helps; the original's commands have its line for an id."""
    pki = shared.home / "pki"
    reader = ["--cert", str(pki / "reader.crt"), "--key", str(pki / "reader.key")]
    words = {
        UNKNOWN: f"Job {UNKNOWN} not found; {LIST}",
        "nope": f"No job named nope; {LIST}",
        "": f"No job named ''; {LIST}",
        "@last": "you have started no job yet; `worker start` starts one",
    }
    # A reader may not stop a job, but a name is looked up before.
    known_to_reader = job != UNKNOWN or name in {"query", "stream", "wait", "inspect", "logs", "debug"}
    options = reader if known_to_reader else []
    done = typed(*arguments_of(name, job), *options)
    original = f"rpc error: code = NotFound desc = Job {UNKNOWN} not found\n"
    expected = f"worker: {words[job]}\n"
    if job == UNKNOWN and name in {"query", "stop", "stream"}:
        expected = original
    assert (1, expected) == (done.returncode, done.stderr)
    assert done.stdout == ("[]\n" if name == "inspect" else "")
    if "form" in {each.name for each in OF_JOBS[name].params}:
        done = typed(*arguments_of(name, job), *options, "-o", "json")
        assert (1, "NOT_FOUND", words[job]) == error_of(done)


@pytest.mark.parametrize("name", ["stop", "signal", "pause", "resume", "update", "kill"])
def test_a_job_that_has_finished(typed, jobs, name):
    """The error names the job as the user does; `stop` with an id has the line of the original."""
    for job in (jobs["done"], "done"):
        message = f"The process of job {job} is already finished; `worker query {job}` prints how it ended"
        done = typed(*arguments_of(name, job))
        original = name == "stop" and job == jobs["done"]
        line = "rpc error: code = FailedPrecondition desc = the process is already finished"
        expected = line if original else f"worker: {message}"
        assert (1, "", f"{expected}\n") == (done.returncode, done.stdout, done.stderr)
        as_json = typed(*arguments_of(name, job), "-o", "json")
        assert (1, "FAILED_PRECONDITION", message) == error_of(as_json)


@pytest.mark.parametrize("name", sorted(commands("server").keys() - ANSWERS - {"certs"}))
def test_no_server(typed, name):
    """Every command that needs a server says where none answers, and what starts one."""
    job = [UNKNOWN] if name in OF_JOBS else ["true"] if name in {"start", "run"} else []
    line = [name, "--server", "127.0.0.1:1", *arguments_of(name, *job)[1:]]
    message = "cannot reach the server at 127.0.0.1:1: connection refused; `worker up` starts a server"
    done = typed(*line)
    status = 125 if name == "run" else 1
    assert (status, f"worker: {message}\n") == (done.returncode, done.stderr)
    if "form" in {each.name for each in commands("server")[name].params}:
        assert (1, "UNAVAILABLE", message) == error_of(typed(name, "-o", "json", *line[1:]))


def leaves(command, path):
    """Return the commands of a group with what is typed for them."""
    if isinstance(command, click.Group):
        return [leaf for each in command.commands.values() for leaf in leaves(each, [*path, each.name])]
    return [(path, command)]


WITH_JSON = [
    path
    for each in COMMANDS
    for path, command in leaves(each.load(), [each.name])
    if "form" in {parameter.name for parameter in command.params}
]


@pytest.mark.parametrize("path", WITH_JSON, ids=" ".join)
@pytest.mark.parametrize("before", [True, False])
def test_a_wrong_command_line_as_json(typed, path, before):
    """An error in it is JSON too, wherever -o json stands; without -o json, the usage follows."""
    asked = ["-o", "json"]
    wrong = [*path, *(asked if before else []), "--no-such-option", *([] if before else asked)]
    status, code, message = error_of(typed(*wrong))
    assert (2, "INVALID_ARGUMENT") == (status, code)
    assert message.startswith("No such option")
    done = typed(*path, "--no-such-option")
    first, usage, *_ = done.stderr.splitlines()
    assert (2, f"worker: {message}") == (done.returncode, first)
    assert usage.startswith(f"Usage: worker {' '.join(path)} ")


ERRORS = [
    (["start", "--memory", "10X", "ls"], 2, "INVALID_ARGUMENT", "--memory 10X: unknown unit 'X'; use "),
    (["start", ""], 1, "INVALID_ARGUMENT", "command: is empty"),
    (["start", "nonesuch"], 1, "INVALID_ARGUMENT", "nonesuch: No such file or directory"),
    (["start", "--name", "long", "true"], 1, "FAILED_PRECONDITION", "job {long} named long is running; "),
    (["start", "--env-file", "/", "true"], 2, "INVALID_ARGUMENT", "--env-file /: cannot read it: Is a dir"),
    (["start", "--secret", "a=/", "true"], 2, "INVALID_ARGUMENT", "--secret a=/: cannot read /: Is a dir"),
    (["remove", "long"], 1, "FAILED_PRECONDITION", "Job {long} is still running; stop it first"),
    (["stop"], 2, "INVALID_ARGUMENT", "name a job, or use --label"),
    (["list", "--ca", "/nonexistent"], 1, "FAILED_PRECONDITION", "cannot read /nonexistent: No such file"),
    (["list", "--context", "nope"], 1, "FAILED_PRECONDITION", "there is no context named nope; `worker "),
    (["context", "show", "nope"], 1, "FAILED_PRECONDITION", "there is no context named nope; `worker "),
    (["certs", "show", "nope"], 1, "NOT_FOUND", "there is no certificate {pki}/nope.crt, nor a file nope"),
    (
        ["certs", "revoke", "nope"],
        1,
        "NOT_FOUND",
        "there is no certificate {pki}/nope.crt, nor a file nope",
    ),
    (["certs", "init"], 1, "FAILED_PRECONDITION", "{pki}/ca.crt exists; a CA is never overwritten"),
    (
        ["policy", "check", "/nonexistent"],
        1,
        "FAILED_PRECONDITION",
        "cannot read /nonexistent: No such file",
    ),
    (["policy", "check", "/"], 2, "INVALID_ARGUMENT", "Invalid value for 'FILE': File '/' is a directory"),
    (["join", "127.0.0.1:1"], 2, "INVALID_ARGUMENT", "use HOST:PORT and TOKEN, as `worker invite` prints"),
    (["ls"], 2, "INVALID_ARGUMENT", "there is no `worker ls`: "),
    (["ping", "--server", "x"], 2, "INVALID_ARGUMENT", "--server x: write HOST:PORT, as in 127.0.0.1:7443"),
]


@pytest.mark.parametrize(("line", "status", "code", "message"), ERRORS, ids=lambda each: str(each)[:40])
def test_an_error(typed, shared, jobs, line, status, code, message):
    """People get a sentence on stderr, scripts an object with the code; the exit status is the same."""
    message = message.format(**jobs, pki=shared.home / "pki")
    done = typed(*line)
    assert (status, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(f"worker: {message}")
    words = 2 if line[0] in {"certs", "context", "policy"} else 1
    found = error_of(typed(*line[:words], "-o", "json", *line[words:]))
    assert (status, code) == found[:2]
    assert found[2].startswith(message)


def test_a_call_that_the_role_does_not_allow(typed, shared, jobs):
    """The error says which right is missing, and what shows the rights; of several jobs, which one."""
    pki = shared.home / "pki"
    reader = ["--cert", str(pki / "reader.crt"), "--key", str(pki / "reader.key")]
    why = (
        "Stop requires a role with the right to write; the roles of 'reader' are: reader; `worker whoami` "
        "shows what you may do"
    )
    assert f"worker: {why}\n" == typed("stop", *reader, "long").stderr
    both = typed("stop", *reader, "long", "done").stderr
    assert f"worker: Job long: {why}\nworker: Job done: {why}\n" == both
    assert (1, "PERMISSION_DENIED", why) == error_of(typed("stop", *reader, "-o", "json", "long"))
    assert "running" == shared.query(jobs["long"])["state"]


def test_several_jobs_of_which_some_fail(typed, jobs):
    """JSON has those that were found on stdout, and one line for each error on stderr."""
    names = ["done", "nope", "other", UNKNOWN]
    done = typed("query", "-o", "json", *names)
    assert 1 == done.returncode
    assert [jobs["done"], jobs["other"]] == [each["id"] for each in json.loads(done.stdout)]
    errors = [json.loads(line)["error"]["message"] for line in done.stderr.splitlines()]
    expected = [f"No job named nope; {LIST}", f"Job {UNKNOWN} not found; {LIST}"]
    assert expected == errors
    words = typed("query", *names).stderr
    assert [f"worker: {each}" for each in expected] == words.splitlines()
    for verb in ("wait", "stop"):
        nothing = typed(verb, "-o", "json", "nope", UNKNOWN)
        assert (1, "", 2) == (nothing.returncode, nothing.stdout, nothing.stderr.count("\n"))
    none = typed("remove", "-o", "json", "--label", "no=such")
    assert (0, "[]\n", "") == (none.returncode, none.stdout, none.stderr)


def test_what_belongs_to_the_job_asks_for_nothing(typed):
    """`-o json` after CMD is an argument of the job."""
    done = typed("start", "--no-such-option", "echo", "-o", "json")
    assert done.stderr.startswith("worker: No such option")


def test_a_closed_stdout(shared, jobs):
    """It is named, also as JSON; a closed stderr changes no exit status."""
    command = " ".join(shared.command)

    def run(line):
        return subprocess.run(
            ["sh", "-c", f"{command} {line}"], env=shared.env, capture_output=True, check=False
        )

    done = run(f"query {jobs['done']} >&-")
    assert (1, b"worker: cannot write to stdout: Bad file descriptor\n") == (done.returncode, done.stderr)
    as_json = run(f"query -o json {jobs['done']} >&-")
    assert (1, "FAILED_PRECONDITION", "cannot write to stdout: Bad file descriptor") == error_of(
        Done(as_json.returncode, as_json.stdout.decode(), as_json.stderr.decode())
    )
    assert 1 == run("query nope 2>&-").returncode


def test_an_invitation_at_the_address_of_the_server(typed, shared):
    """A user who types the address of the server is told to use the one of the invitation."""
    address = (shared.home / "address").read_text().strip()
    message = f"{address} has closed the connection: it is not the address that `worker invite` has printed"
    status, code, found = error_of(typed("join", "-o", "json", address, str(new_token(b"ca"))))
    assert (1, "FAILED_PRECONDITION", True) == (status, code, found.startswith(message))


@pytest.mark.parametrize("variable", ["WORKER_HOME=/dev/null", "WORKER_SERVER=x", "WORKER_RECONNECT=x"])
def test_variables_that_cannot_be_used(typed, monkeypatch, variable):
    """They are errors in one line."""
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    for line in (["list"], ["ping"], *([["up"], ["certs", "init"]] if name == "WORKER_HOME" else [])):
        done = typed(*line)
        assert (1, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
        assert done.stderr.startswith("worker: ")
        assert value in done.stderr
        assert "internal error" not in done.stderr
