"""From the options of `start` to a JobSpec."""

import shlex

import click
import pytest
from click.testing import CliRunner

from worker.cli.commands.run import run
from worker.cli.commands.start import start
from worker.cli.commands.update import update
from worker.cli.options.limits import LIMITS
from worker.cli.options.spec import (
    JOB_COMMAND,
    JobOptions,
    job_options,
    job_spec,
)
from worker.cli.terminal.console import Failure
from worker.core.model.job import JobSpec, Leftovers
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
)


def spec_of(*arguments: str) -> JobSpec:
    """Return what this command line asks for."""
    found: list[JobSpec] = []

    @click.command(context_settings=JOB_COMMAND)
    @job_options
    def start(**job: object) -> None:
        found.append(job_spec(JobOptions(**job)))  # type: ignore[typeddict-item]  # from click

    CliRunner().invoke(start, arguments, catch_exceptions=False, standalone_mode=False)
    return found[0]


def test_a_bare_command_has_the_defaults_of_the_core() -> None:
    """Who gives no option gets the job that the library would make."""
    assert JobSpec("ls", ["/"]) == spec_of("ls", "/")


def test_all_options() -> None:
    """Every option arrives in the field that it is named for."""
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
        labels={"team": "a"},
        timeout=3600.0,
        grace=0.5,
        leftovers=Leftovers.WAIT,
        split_output=True,
    ) == spec_of(
        *shlex.split(
            """
            --env A=1 --env B=x=y --cwd /src --user nobody --label team=a
            --timeout 1h --grace 500ms --leftovers wait --split-output
            --cpu 50% --cpu-weight 200 --cpus 0-1 --pids 50
            --memory 100M --memory-high 80M --swap 0
            --io-read /dev/vda=1M --io-write /dev/vda=2M --io-read /var=512
            --io-read-iops /dev/vda=100 --io-write-iops /dev/vda=200
            make all
            """
        )
    )


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
def test_from_the_command_on_all_belongs_to_the_job(arguments: list[str], command: list[str]) -> None:
    """Options come before CMD; what follows is the job's, whatever it looks like."""
    spec = spec_of(*arguments)
    assert command == [spec.command, *spec.args]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--cpu", "0", "ls"], "limits.cpu.quota: 0.0 cores; 0.01 to 65536 can be set"),
        (["--timeout", "0", "ls"], "timeout: 0 s; must be above 0, at most 10 years"),
        (["--cwd", "src", "ls"], "working directory: 'src' is not an absolute path"),
        ([""], "command: is empty"),
    ],
)
def test_what_no_job_can_be(arguments: list[str], reason: str) -> None:
    """Values that the core refuses are told as the server would tell them."""
    with pytest.raises(Failure) as refused:
        spec_of(*arguments)
    assert f"rpc error: code = InvalidArgument desc = {reason}" == str(refused.value)


def test_an_update_takes_the_same_limits() -> None:
    """All limits of a start can be changed later, by options of the same names."""
    limits = {limit.option for limit in LIMITS}
    for command in (start, run, update):
        assert limits <= {name for option in command.params for name in option.opts}


def test_no_limit_is_dropped_for_another() -> None:
    """Two limits of one kind for one device contradict each other."""
    with pytest.raises(click.UsageError, match="two limits of the same kind for /var"):
        spec_of("--io-read", "/var=1M", "--io-read", "/var=2M", "ls")
