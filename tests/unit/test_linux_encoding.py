"""Plans in messages and histories: of this version, of the previous one, and of a newer one."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from worker.core.errors import IncompatibleAdapters
from worker.core.model.ending import Channel
from worker.core.model.execution import Execution
from worker.core.model.job import JobSpec, Leftovers
from worker.core.model.limits import CpuLimit, IoLimit, ResourceLimits
from worker.core.model.terminal import WindowSize
from worker.core.model.ulimits import Ulimit
from worker.core.ports import (
    AppendedFile,
    Placement,
    RecordedFifo,
    Sink,
)
from worker.core.testing.memory_outputs import MemorySink
from worker.linux.ipc.encoding import SpawnPlan, plan_from_message, plan_to_message
from worker.linux.state.history import (
    History,
    HistoryUnreadable,
    StartRecord,
    read_history,
)

DIRECTORY = "/state/jobs/7"

SPEC = JobSpec(
    "sh",
    ["-c", "echo \N{LATIN SMALL LETTER E WITH ACUTE}"],
    env={"PATH": "/usr/bin:/bin", "WORKER_JOB_ID": "0d7f"},
    working_directory="/tmp",
    user="nobody",
    limits=ResourceLimits(
        cpu=CpuLimit(quota=0.5),
        io=(IoLimit("/dev/vda", 5, unlimited=("write_bytes_per_second",)),),
        pids=9,
        unlimited=("memory.max",),
    ),
    labels={"k": "v"},
    timeout=90.5,
    grace=5,
    leftovers=Leftovers.WAIT,
    linger=2.5,
    signal_all=True,
    execution=Execution("/usr/bin/true", ("/usr/bin/nice", "-n5"), "/usr/bin", "/srv"),
    stdin=True,
    split_output=True,
    output_max=1 << 20,
    ulimits=(Ulimit("nofile", 4096, 8192), Ulimit("core", None, None), Ulimit("fsize", 0, (1 << 64) - 2)),
    new_privileges=True,
    pipe_size=1 << 20,
    name="build",
)
ON_A_TERMINAL = JobSpec("sh", stdin=True, terminal=WindowSize(24, 80))
SINKS: dict[Channel, Sink] = {
    Channel.STDOUT: RecordedFifo(f"{DIRECTORY}/stdout.fifo", DIRECTORY, 8192, 4),
    Channel.STDERR: AppendedFile("/elsewhere/7/stderr", 100),
}
PLACEMENT = Placement(
    "/sys/fs/cgroup/w/0d7f", ("/sys/fs/cgroup/pids/w/0d7f",), "/sys/fs/cgroup/w/0d7f/memory.events"
)
PLAN = SpawnPlan(SPEC, 1000, 100, (4, 24), PLACEMENT, SINKS, no_new_privs=True)

# As commit 9acfd5d wrote it.
FLAT_HISTORY = rb"""
{"start": {"pid": 7, "start": 8, "boot_id": "b00t", "started_at": 1.5, "deadline": 100.25, "plan": {"argv": ["sh", "-c", "echo \u00e9"], "env": {"PATH": "/usr/bin:/bin", "WORKER_JOB_ID": "0d7f"}, "working_directory": "/tmp", "uid": 1000, "gid": 100, "groups": [4, 24], "placement": {"unified": "/sys/fs/cgroup/w/0d7f", "legacy": ["/sys/fs/cgroup/pids/w/0d7f"], "oom_events": "/sys/fs/cgroup/w/0d7f/memory.events"}, "channels": ["stdout", "stderr"], "segment_size": 8192, "timeout": 90.5, "grace": 5, "leftovers": "wait", "most_segments": 4}}, "generation": "g1"}"""  # noqa: E501 - one line of the file


def passed_on(plan: SpawnPlan, written_in: str = DIRECTORY, read_in: str = DIRECTORY) -> SpawnPlan:
    """Return what the reader of a plan's message has."""
    return plan_from_message(json.loads(json.dumps(plan_to_message(plan, written_in))), read_in)


def test_a_plan_arrives_as_it_was_sent() -> None:
    """Every field of the spec, the account, the placement and each kind of sink is passed on."""
    assert passed_on(PLAN) == PLAN


def test_every_field_of_a_spec_is_passed_on() -> None:
    """A new field of JobSpec needs no code here, but a value other than its default in SPEC."""
    default = JobSpec("true")
    specs = (SPEC, ON_A_TERMINAL)
    same = [
        each.name
        for each in fields(JobSpec)
        if all(getattr(spec, each.name) == getattr(default, each.name) for spec in specs)
    ]
    assert [] == same
    for spec in specs:
        assert spec == passed_on(replace(PLAN, spec=spec)).spec


def test_a_plan_of_defaults_arrives_as_it_was_sent() -> None:
    """What is not set stays unset."""
    assert SpawnPlan(JobSpec("true")) == passed_on(SpawnPlan(JobSpec("true")))


def test_paths_in_the_directory_of_a_job_move_with_it() -> None:
    """A history is valid in a WORKER_HOME that was moved; paths of another store stay."""
    assert {
        Channel.STDOUT: RecordedFifo("/moved/7/stdout.fifo", "/moved/7", 8192, 4),
        Channel.STDERR: AppendedFile("/elsewhere/7/stderr", 100),
    } == passed_on(PLAN, read_in="/moved/7").sinks


def test_a_path_with_two_slashes_stays_in_the_directory() -> None:
    """A store may build the path of its FIFO from a directory that ends with a slash."""
    sink = AppendedFile(f"{DIRECTORY}//output")
    assert sink == passed_on(replace(PLAN, sinks={Channel.OUTPUT: sink})).sinks[Channel.OUTPUT]


def test_a_history_of_the_previous_version_is_read(tmp_path: Path) -> None:
    """The flat plan of commit 9acfd5d: FIFOs and segments are in the job's directory."""
    path = tmp_path / "history"
    path.write_bytes(FLAT_HISTORY)
    spec = JobSpec(
        SPEC.command,
        SPEC.args,
        env=SPEC.env,
        working_directory="/tmp",
        timeout=90.5,
        grace=5,
        leftovers=Leftovers.WAIT,
        split_output=True,
    )
    sinks = {
        channel: RecordedFifo(f"{tmp_path}/{channel}.fifo", str(tmp_path), 8192, 4)
        for channel in (Channel.STDOUT, Channel.STDERR)
    }
    plan = SpawnPlan(spec, 1000, 100, (4, 24), PLACEMENT, sinks)
    assert History(StartRecord(7, 8, "b00t", 1.5, 100.25, plan), "g1") == read_history(path)


def test_a_flat_plan_without_a_bound_is_read() -> None:
    """The versions before ``output_max`` wrote no ``most_segments``: all segments are kept."""
    flat = json.loads(FLAT_HISTORY)["start"]["plan"]
    del flat["most_segments"]
    sink = plan_from_message(flat, DIRECTORY).sinks[Channel.STDERR]
    assert RecordedFifo(f"{DIRECTORY}/stderr.fifo", DIRECTORY, 8192) == sink


def test_unknown_fields_are_ignored() -> None:
    """A newer version may have more fields, in the spec and in what it contains."""
    message = json.loads(json.dumps(plan_to_message(PLAN, DIRECTORY)))
    newer = [message, message["spec"], message["spec"]["limits"]["cpu"], *message["sinks"].values()]
    for each in (*newer, message["placement"]):
        each["new"] = {"any": ["thing"]}
    assert PLAN == plan_from_message(message, DIRECTORY)


def test_missing_fields_have_their_defaults() -> None:
    """An older version of the spec had fewer fields."""
    message = json.loads(json.dumps(plan_to_message(PLAN, DIRECTORY)))
    message["spec"] = {"command": "true"}
    assert JobSpec("true") == plan_from_message(message, DIRECTORY).spec


@pytest.mark.parametrize(
    ("field", "value"),
    [("command", 5), ("args", "abc"), ("env", []), ("timeout", "5"), ("leftovers", "all"), ("grace", -1)],
)
def test_a_spoiled_spec_makes_a_history_unreadable(tmp_path: Path, field: str, value: object) -> None:
    """A value of the wrong type, or that no spec can have, is not taken for another."""
    message = json.loads(json.dumps(plan_to_message(PLAN, DIRECTORY)))
    message["spec"][field] = value
    history = json.loads(FLAT_HISTORY)
    history["start"]["plan"] = message
    path = tmp_path / "history"
    path.write_text(json.dumps(history))
    with pytest.raises(HistoryUnreadable):
        read_history(path)


def test_a_sink_of_another_kind_is_rejected() -> None:
    """The supervisor cannot write to an object in the server's process."""
    plan = SpawnPlan(JobSpec("true"), sinks={Channel.OUTPUT: MemorySink()})
    with pytest.raises(IncompatibleAdapters, match="no sinks of kind in-process"):
        plan_to_message(plan, DIRECTORY)
