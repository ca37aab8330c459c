"""The job spec that the options of `start` describe."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from worker.cli.commands.run import run
from worker.cli.commands.start import start
from worker.cli.commands.update import update
from worker.cli.options.job_spec import JOB_COMMAND, job_options, job_spec
from worker.cli.options.limits import LIMITS, Limit
from worker.cli.options.parameters import parse_secret
from worker.cli.terminal.console import Failure
from worker.core.model.job import JobSpec, Leftovers
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
)
from worker.core.model.terminal import WindowSize
from worker.core.model.ulimits import Ulimit


def spec_of(*arguments: str) -> JobSpec:
    """Return the job spec of this command line."""
    found: list[JobSpec] = []

    @click.command(context_settings=JOB_COMMAND)
    @job_options
    def start(request_id: str, secrets: Mapping[str, bytes], **job: object) -> None:
        assert ("", {}) == (request_id, secrets)
        found.append(job_spec(job))

    CliRunner().invoke(start, arguments, catch_exceptions=False, standalone_mode=False)
    return found[0]


def test_a_bare_command_has_the_defaults_of_the_core() -> None:
    """Without options, the job spec has the defaults of the core."""
    assert JobSpec("ls", ["/"]) == spec_of("ls", "/")


def test_all_options() -> None:
    """Every option sets its field."""
    assert JobSpec(
        "make",
        ["all"],
        env={"A": "1", "B": "x=y"},
        working_directory="/src",
        user="nobody",
        limits=ResourceLimits(
            cpu=CpuLimit(0.5, 200),
            memory=MemoryLimit(100 << 20, 80 << 20, 0),
            io=(IoLimit("/dev/vda", 1 << 20, 2 << 20, 100, 200), IoLimit("/var", 512)),
            pids=50,
            cpuset="0-1",
        ),
        name="build",
        labels={"team": "a"},
        timeout=3600.0,
        grace=0.5,
        leftovers=Leftovers.WAIT,
        linger=2.0,
        signal_all=True,
        split_output=True,
        stdin=True,
    ) == spec_of(
        *shlex.split(
            """
            --env A=1 --env B=x=y --cwd /src --user nobody --name build --label team=a
            --timeout 1h --grace 500ms --leftovers wait --linger 2s --signal-all --split-output -i
            --cpu 50% --cpu-weight 200 --cpus 0-1 --pids 50
            --memory 100M --memory-high 80M --swap 0
            --io-read /dev/vda=1M --io-write /dev/vda=2M --io-read /var=512
            --io-read-iops /dev/vda=100 --io-write-iops /dev/vda=200
            make all
            """
        )
    )


def test_every_field_has_an_option() -> None:
    """Each field that a client may set has an option of `start` and `run`, and so has each limit."""
    others = {"limits", "execution"}
    wanted = {each.name for each in fields(JobSpec)} - others | {limit.name for limit in LIMITS}
    for command in (start, run):
        assert wanted <= {each.name for each in command.params}


@pytest.mark.parametrize(
    ("arguments", "started", "run_as"),
    [([], False, True), (["--split-output"], True, True), (["--no-split-output"], False, False)],
)
def test_run_separates_stdout_and_stderr(arguments: list[str], *, started: bool, run_as: bool) -> None:
    """By default `start` keeps one channel and `run` two; the option replaces both defaults."""
    for command, expected in ((start, started), (run, run_as)):
        context = command.make_context(command.name, [*arguments, "ls"])
        assert expected is context.params["split_output"]


@pytest.mark.parametrize("option", ["-t", "--tty"])
def test_a_terminal(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """Its size is that of the local one, here unknown; TERM is passed on, unless it is set."""
    monkeypatch.setenv("TERM", "linux")
    terminal = WindowSize()
    assert JobSpec("ls", env={"TERM": "linux"}, terminal=terminal) == spec_of(option, "ls")
    assert JobSpec("ls", env={"TERM": "vt100"}, terminal=terminal) == spec_of(
        option, "--env", "TERM=vt100", "ls"
    )
    monkeypatch.delenv("TERM")
    assert JobSpec("ls", env={"TERM": "xterm"}, terminal=terminal, stdin=True) == spec_of("-it", "ls")


@pytest.mark.parametrize("arguments", [["-t", "--split-output"], ["--split-output", "-t"]])
def test_a_terminal_has_one_channel(arguments: list[str]) -> None:
    """By default also of `run`; an option that demands two is rejected."""
    for command in (start, run):
        assert not command.make_context(command.name, ["-t", "ls"]).params["split_output"]
    with pytest.raises(Failure, match="stdout and stderr of a terminal cannot be separate"):
        spec_of(*arguments, "ls")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["ls", "-l", "--help", "--", "-x"], ["ls", "-l", "--help", "--", "-x"]),
        (["ls", "--cpu", "9"], ["ls", "--cpu", "9"]),
        (["--", "-x"], ["-x"]),
        (["--", "--"], ["--"]),
        (["sh", "-c", "a\nb 'c' \"d\"", ""], ["sh", "-c", "a\nb 'c' \"d\"", ""]),
    ],
)
def test_arguments_after_the_command_belong_to_the_job(arguments: list[str], command: list[str]) -> None:
    """Options come before CMD; later arguments belong to the job, whatever they look like."""
    spec = spec_of(*arguments)
    assert command == [spec.command, *spec.args]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--cpu", "0", "ls"], "--cpu: 0.0 cores; must be 0.01 to 65536"),
        (["--timeout", "0", "ls"], "timeout: 0 s; must be above 0, at most 10 years"),
        (["--cwd", "src", "ls"], "working directory: 'src' is not an absolute path"),
        ([""], "command: is empty"),
    ],
)
def test_invalid_specs(arguments: list[str], reason: str) -> None:
    """A value that the core rejects has the code that the server gives it."""
    with pytest.raises(Failure) as refused:
        spec_of(*arguments)
    assert (reason, "INVALID_ARGUMENT") == (str(refused.value), refused.value.code)


def test_an_update_takes_the_same_limits() -> None:
    """`update` has an option for every limit of `start`."""
    limits = {limit.option for limit in LIMITS}
    for command in (start, run, update):
        assert limits <= {name for option in command.params for name in option.opts}


def test_two_limits_of_one_kind_are_rejected() -> None:
    """Two limits of the same kind for one device contradict each other."""
    with pytest.raises(click.UsageError, match="two limits of the same kind for /var"):
        spec_of("--io-read", "/var=1M", "--io-read", "/var=2M", "ls")


@pytest.mark.parametrize("word", ["unlimited", "max"])
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_every_limit_can_be_unlimited(limit: Limit, word: str) -> None:
    """`unlimited`, also `max`, is a value of each limit, and names no other."""
    if limit.per_device:
        spec = spec_of(limit.option, f"/dev/vda={word}", "ls")
        expected = ResourceLimits(io=(IoLimit("/dev/vda", unlimited=(limit.field.removeprefix("io."),)),))
    else:
        spec = spec_of(limit.option, word, "ls")
        expected = ResourceLimits(unlimited=(limit.field,))
    assert expected == spec.limits


def test_a_rate_is_not_both_set_and_unlimited() -> None:
    """Two values of one limit contradict each other, also if one is `unlimited`."""
    with pytest.raises(click.UsageError, match="two limits of the same kind for /var"):
        spec_of("--io-read", "/var=1M", "--io-read", "/var=unlimited", "ls")


def test_the_options_of_processes() -> None:
    """Ulimits, privileges and the pipe size are options of their own."""
    assert JobSpec(
        "ls", ulimits=[Ulimit("nofile", 1, 2), Ulimit("core", 0, 0)], new_privileges=True, pipe_size=1 << 20
    ) == spec_of("--ulimit", "nofile=1:2", "--ulimit", "core=0", "--new-privs", "--pipe-size", "1M", "ls")


def test_a_secret_is_the_contents_of_a_file(tmp_path: Path) -> None:
    """Any bytes of at most 64 KiB; the error for any other names the file, and shows none of it."""
    file, large = tmp_path / "file", tmp_path / "large"
    file.write_bytes(b"a=\0\xff\n")
    assert ("db-password", b"a=\0\xff\n") == parse_secret(f"db-password={file}")
    large.write_bytes(bytes(65537))
    for text, reason in (
        ("password", "write NAME=FILE"),
        (f"={file}", "write NAME=FILE"),
        ("password=", "write NAME=FILE"),
        (f"../password={file}", "'../password': write 1 to 128 letters"),
        (f"password={large}", f"{large} is larger than 64K"),
        (f"password={tmp_path}/none", f"cannot read {tmp_path}/none: No such file or directory"),
    ):
        with pytest.raises(ValueError, match=re.escape(reason)):
            parse_secret(text)
