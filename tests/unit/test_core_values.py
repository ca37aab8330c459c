"""Values reject invalid input and name the field."""

import math
import uuid
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import (
    Channel,
    ClientId,
    CpuLimit,
    Exited,
    InvalidJobSpec,
    IoLimit,
    JobNotFound,
    JobRecord,
    JobSpec,
    JobState,
    LimitBounds,
    Lost,
    MemoryLimit,
    ResourceLimits,
    Signaled,
    Ulimit,
    exit_code,
    new_job_id,
    parse_job_id,
)
from worker.core.model.limits import IO_RATES, LIMIT_NAMES, parse_cpus
from worker.core.testing.journal_contract import EVERYTHING, ON_A_TERMINAL

# --- job ids


def test_a_job_id_can_be_parsed() -> None:
    """The text of a new job id parses to the same id, in upper and in lower case."""
    job = new_job_id()
    assert job == parse_job_id(str(job)) == parse_job_id(str(job).upper())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "not-a-uuid",
        "{b58476f2-9479-445b-898d-29eeaf905a47}",
        "urn:uuid:b58476f2-9479-445b-898d-29eeaf905a47",
        "b58476f29479445b898d29eeaf905a47",
        " b58476f2-9479-445b-898d-29eeaf905a47",
        "b58476f2-9479-445b-898d-29eeaf905a47\n",
        "../../../../etc/passwd-and-some-more",
    ],
)
def test_text_that_is_no_job_id_is_not_found(text: str) -> None:
    """Only the canonical form is a job id; any other text raises JobNotFound with that text."""
    with pytest.raises(JobNotFound) as raised:
        parse_job_id(text)
    assert f"Job {text} not found" == str(raised.value)


@given(st.text())
def test_any_text_is_an_id_or_not_found(text: str) -> None:
    """Parsing raises no other error."""
    try:
        job = parse_job_id(text)
    except JobNotFound:
        return
    assert text.lower() == str(job)


@given(st.uuids())
def test_every_uuid_is_an_id(value: uuid.UUID) -> None:
    """UUIDs of every version are accepted."""
    assert value == parse_job_id(str(value))


# --- job specs

UUID = "b58476f2-9479-445b-898d-29eeaf905a47"


@pytest.mark.parametrize(
    ("make", "field", "reason"),
    [
        (lambda: JobSpec(""), "command", "is empty"),
        (lambda: JobSpec("l\0s"), "command", "contains a NUL byte"),
        (lambda: JobSpec("ls", ["a", "b\0"]), "argument 2", "contains a NUL byte"),
        (lambda: JobSpec("ls", ["\udcff"]), "'argument 1'", "contains a lone surrogate"),
        (lambda: JobSpec("ls", user="a\0b"), "user", "contains a NUL byte"),
        (lambda: JobSpec("ls", env={"A": "\0"}), "env A", "contains a NUL byte"),
        (lambda: JobSpec("ls", env={"\0": ""}), "env \\0", "contains a NUL byte"),
        (lambda: JobSpec("ls", env={"": "x"}), "env", "'' is not a valid name of a variable"),
        (lambda: JobSpec("ls", env={"A=B": "x"}), "env", "'A=B' is not a valid name of a variable"),
        (lambda: JobSpec("ls", labels={"a": "\0"}), "label a", "contains a NUL byte"),
        (lambda: JobSpec("ls", working_directory="tmp"), "working directory", "'tmp' is not an absolute"),
        (lambda: JobSpec("ls", working_directory=""), "working directory", "'' is not an absolute"),
        (lambda: JobSpec("ls", working_directory="/\0"), "working directory", "contains a NUL byte"),
        *(
            (partial(JobSpec, "ls", name=name), "job name", f"{name!a}; must be 1 to 63 letters")
            for name in (
                "-a",
                ".",
                "_",
                "@last",
                "a b",
                "a/b",
                "a\n",
                "\N{LATIN SMALL LETTER O WITH DIAERESIS}",
            )
        ),
        (lambda: JobSpec("ls", name="a" * 64), "job name", "'aaaa"),
        (lambda: JobSpec("ls", name=UUID), "job name", f"{UUID} has the form of a job id"),
        (lambda: JobSpec("ls", name=UUID.upper()), "job name", f"{UUID.upper()} has the form of a job id"),
        (lambda: JobSpec("ls", timeout=0.0), "timeout", "0 s; must be above 0"),
        (lambda: JobSpec("ls", timeout=-1.0), "timeout", "-1 s; must be above 0"),
        (lambda: JobSpec("ls", timeout=math.nan), "timeout", "nan s; must be above 0"),
        (lambda: JobSpec("ls", timeout=math.inf), "timeout", "inf s; must be above 0, at most 10 years"),
        (lambda: JobSpec("ls", grace=-0.5), "grace", "-0.5 s; must be 0 or more"),
        (lambda: JobSpec("ls", grace=math.nan), "grace", "nan s; must be 0 or more"),
        (lambda: JobSpec("ls", grace=1e12), "grace", "1e+12 s; must be 0 or more, at most 10 years"),
        (lambda: JobSpec("ls", pipe_size=4095), "pipe size", "4095 bytes; must be 4K to 1G"),
        (lambda: JobSpec("ls", pipe_size=1 << 31), "pipe size", "2147483648 bytes; must be 4K to 1G"),
        (lambda: Ulimit("files", 1, 1), "ulimits", "unknown name 'files'; known are as, core, cpu"),
        (lambda: Ulimit("nofile", -1, 1), "ulimits.nofile", "soft limit -1; must be 0 or more"),
        (lambda: Ulimit("nofile", 1, 1 << 64), "ulimits.nofile", "hard limit 18446744073709551616; must"),
        (lambda: Ulimit("nofile", 2, 1), "ulimits.nofile", "soft limit 2 is above the hard limit 1"),
        (lambda: Ulimit("nofile", None, 1), "ulimits.nofile", "soft limit unlimited is above the hard"),
        (lambda: JobSpec("ls", ulimits=[Ulimit("cpu", 1, 1)] * 2), "ulimits.cpu", "is given twice"),
        (lambda: ResourceLimits(unlimited=("x",)), "limits.unlimited", "unknown limit 'x'; known are cpu"),
        (lambda: ResourceLimits(pids=1, unlimited=("pids",)), "limits.pids", "is both set and unlimited"),
        (lambda: IoLimit("x", 1, unlimited=IO_RATES), "limits.io.read_bytes_per_second", "is both set and"),
        (lambda: CpuLimit(quota=0.0), "limits.cpu.quota", "0.0 cores; must be 0.01 to 65536"),
        (lambda: CpuLimit(quota=-1.0), "limits.cpu.quota", "-1.0 cores; must be 0.01 to 65536"),
        (lambda: CpuLimit(quota=math.nan), "limits.cpu.quota", "nan cores; must be 0.01 to 65536"),
        (lambda: CpuLimit(quota=math.inf), "limits.cpu.quota", "inf cores; must be 0.01 to 65536"),
        (lambda: CpuLimit(weight=0), "limits.cpu.weight", "0; must be 1 to 10000"),
        (lambda: CpuLimit(weight=10001), "limits.cpu.weight", "10001; must be 1 to 10000"),
        (lambda: MemoryLimit(max=0), "limits.memory.max", "0; must be at least 1"),
        (lambda: MemoryLimit(max=1 << 63), "limits.memory.max", "9223372036854775808; must be"),
        (lambda: MemoryLimit(high=-1), "limits.memory.high", "-1; must be at least 1"),
        (lambda: MemoryLimit(swap_max=-1), "limits.memory.swap_max", "-1; must be at least 0"),
        (lambda: IoLimit(""), "limits.io.device", "is empty"),
        (
            lambda: IoLimit("8:0", read_bytes_per_second=0),
            "limits.io.read_bytes_per_second",
            "0; must be at least 1",
        ),
        (
            lambda: IoLimit("8:0", write_operations_per_second=-1),
            "limits.io.write_operations_per_second",
            "-1; must be at least 1",
        ),
        (lambda: ResourceLimits(pids=0), "limits.pids", "0; must be at least 1"),
    ],
)
def test_invalid_values_are_rejected(make: Callable[[], object], field: str, reason: str) -> None:
    """The error names the field and gives the reason and the valid range."""
    with pytest.raises(InvalidJobSpec) as raised:
        make()
    assert field == raised.value.field
    assert raised.value.reason.startswith(reason)
    assert f"{field}: {raised.value.reason}" == str(raised.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: JobSpec(" "),
        lambda: JobSpec("--help", ["", "-x", "--", "\n", "\N{GRINNING FACE}", "x" * (1 << 20)]),
        lambda: JobSpec("./ls", env={"A": "", "B": "=", "\N{SNOWMAN}": "\t"}, working_directory="/."),
        lambda: JobSpec("ls", timeout=0.001, grace=0.0),
        lambda: CpuLimit(quota=0.01, weight=1),
        lambda: CpuLimit(quota=65536, weight=10000),
        lambda: MemoryLimit(max=1, high=(1 << 63) - 1, swap_max=0),
        lambda: ResourceLimits(pids=1),
    ],
)
def test_unusual_values_are_accepted(make: Callable[[], object]) -> None:
    """The values do not check whether a command exists or a limit can be enforced."""
    assert make() == make()


def test_a_spec_is_a_copy() -> None:
    """A later change of the caller's lists and dicts does not change the spec."""
    args, env, labels = ["a"], {"A": "1"}, {"l": "1"}
    spec = JobSpec("ls", args, env=env, labels=labels)
    args.append("b")
    env["B"] = labels["m"] = "2"
    assert JobSpec("ls", ("a",), env={"A": "1"}, labels={"l": "1"}) == spec
    with pytest.raises(TypeError):
        spec.env["B"] = "2"


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
names = words.filter(lambda name: "=" not in name)


@given(
    arguments=st.fixed_dictionaries(
        {"command": words, "args": st.lists(words), "env": st.dictionaries(names, words)},
        optional={
            "labels": st.dictionaries(words, words),
            "user": words,
            "timeout": st.floats(1e-3, 86400.0),
            "grace": st.floats(0.0, 86400.0),
            "split_output": st.booleans(),
        },
    )
)
def test_specs_compare_by_value(arguments: dict[str, Any]) -> None:
    """Specs with equal fields are equal, others are not."""
    assert JobSpec(**arguments) == JobSpec(**arguments)
    assert JobSpec(**arguments) != JobSpec(**{**arguments, "command": arguments["command"] + "x"})


@given(st.text(st.characters()))
def test_any_text_is_an_argument_or_rejected(text: str) -> None:
    """Accepted text can be passed to execve(2)."""
    try:
        spec = JobSpec("ls", [text])
    except InvalidJobSpec:
        return
    assert b"\0" not in spec.args[0].encode()


def test_channels_follow_from_the_spec() -> None:
    """One channel for both descriptors, or one for each, stdout first."""
    assert (Channel.OUTPUT,) == JobSpec("ls").channels
    assert (Channel.STDOUT, Channel.STDERR) == JobSpec("ls", split_output=True).channels


# --- endings


def test_exit_code_is_that_of_a_shell() -> None:
    """The code, 128 + signal, or -1 for a lost job."""
    endings = [Exited(0), Exited(255), Signaled(9), Signaled(15), Lost("power")]
    assert [0, 255, 137, 143, -1] == [exit_code(ending) for ending in endings]


def test_final_states() -> None:
    """Only EXITED and LOST are final."""
    assert [JobState.EXITED, JobState.LOST] == [state for state in JobState if state.over]


# --- limits


def test_a_maximum_weight_raises_no_weight() -> None:
    """A job without a weight has the default of 100, or the maximum if that is lower."""
    bounds = LimitBounds(maximum=ResourceLimits(cpu=CpuLimit(weight=1000)))
    assert 100 == bounds.apply(ResourceLimits()).cpu.weight
    bounds = LimitBounds(maximum=ResourceLimits(cpu=CpuLimit(weight=50)))
    assert 50 == bounds.apply(ResourceLimits()).cpu.weight


VDA = IoLimit("/dev/vda", 1, 2, 3, 4)
EVERY_LIMIT = ResourceLimits(CpuLimit(0.5, 50), MemoryLimit(4, 3, 2), (VDA,), 9, "0")
NO_LIMITS = ResourceLimits()


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_each_limit_can_be_removed(name: str) -> None:
    """`unlimited` removes the limit that it names and no other, and limits in effect have none."""
    changed = EVERY_LIMIT.updated(ResourceLimits(unlimited=(name,)))
    assert EVERY_LIMIT.without([name]) == changed
    assert attrgetter(name)(changed) is None
    assert all(attrgetter(other)(changed) is not None for other in LIMIT_NAMES if other != name)
    assert () == changed.unlimited


@pytest.mark.parametrize("rate", IO_RATES)
def test_each_rate_of_a_device_can_be_removed(rate: str) -> None:
    """A device without any rate left has no limit."""
    changed = EVERY_LIMIT.updated(ResourceLimits(io=(IoLimit("/dev/vda", unlimited=(rate,)),)))
    assert (replace(VDA, **{rate: None}),) == changed.io
    assert () == EVERY_LIMIT.updated(ResourceLimits(io=(IoLimit("/dev/vda", unlimited=IO_RATES),))).io
    raised = IoLimit("/dev/vda", 7, unlimited=IO_RATES[1:])
    assert (IoLimit("/dev/vda", 7),) == EVERY_LIMIT.updated(ResourceLimits(io=(raised,))).io


def test_a_job_without_limit_overrides_the_default_but_not_the_maximum() -> None:
    """At a start `unlimited` replaces the default; the maximum of the server rejects it."""
    free = ResourceLimits(io=(IoLimit("/dev/vda", unlimited=IO_RATES),), unlimited=LIMIT_NAMES)
    assert NO_LIMITS == LimitBounds(default=EVERY_LIMIT).apply(free) == LimitBounds().apply(free)
    for name in LIMIT_NAMES:
        with pytest.raises(
            InvalidJobSpec, match=f"limits.{name}: unlimited is above this server's maximum"
        ):
            LimitBounds(maximum=EVERY_LIMIT).apply(ResourceLimits(unlimited=(name,)))
    for rate in IO_RATES:
        request = ResourceLimits(io=(IoLimit("/dev/vda", unlimited=(rate,)),))
        with pytest.raises(InvalidJobSpec, match=f"limits.io /dev/vda.{rate}: unlimited is above"):
            LimitBounds(maximum=EVERY_LIMIT).apply(request)
    assert 100 == LimitBounds(maximum=ResourceLimits(CpuLimit(weight=200))).apply(free).cpu.weight


def test_an_update_checks_only_what_it_changes() -> None:
    """Limits above a maximum that was lowered meanwhile stay; defaults are not applied again."""
    bounds = LimitBounds(ResourceLimits(cpuset="3"), ResourceLimits(CpuLimit(0.1), MemoryLimit(2), pids=5))
    current = ResourceLimits(CpuLimit(0.5), MemoryLimit(4))
    changed = bounds.apply_changes(current, ResourceLimits(memory=MemoryLimit(max=1)))
    assert ResourceLimits(CpuLimit(0.5), MemoryLimit(1)) == changed
    for changes, reason in (
        (ResourceLimits(memory=MemoryLimit(max=3)), "limits.memory.max: 3 is above"),
        (ResourceLimits(unlimited=("pids",)), "limits.pids: unlimited is above this server's maximum of 5"),
    ):
        with pytest.raises(InvalidJobSpec, match=reason):
            bounds.apply_changes(current, changes)


def test_a_device_by_another_name_is_not_ignored() -> None:
    """A limit that is removed is that of a device that has one, by the same name."""
    changes = ResourceLimits(io=(IoLimit("/var", unlimited=("read_bytes_per_second",)),))
    with pytest.raises(InvalidJobSpec, match=r"limits\.io /var: has no limit; .* those of /dev/vda"):
        LimitBounds().apply_changes(EVERY_LIMIT, changes)
    assert NO_LIMITS == LimitBounds().apply_changes(NO_LIMITS, changes)


@pytest.mark.parametrize(
    ("text", "expected"), [("0", {0}), ("0-2,4", {0, 1, 2, 4}), (" 3 , 1 ", {1, 3}), ("1,1-1", {1})]
)
def test_parse_cpus(text: str, expected: set[int]) -> None:
    """Lists have the format of the kernel and taskset."""
    assert expected == parse_cpus(text)


@pytest.mark.parametrize("text", ["", "a", "1-", "2-1", "-1", "0,", "0--1", "²", "0-2:1/2"])
def test_an_invalid_list_of_cpus_is_rejected(text: str) -> None:
    """The error has an example of a valid list."""
    with pytest.raises(
        InvalidJobSpec, match=r"limits\.cpuset: .* is neither a CPU nor a range; write 0-2,4"
    ):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0-9999999", "CPU 9999999 cannot exist;"),
        ("0," * 3000 + "0", "6001 characters"),
        ("0-8191,0-8191", "more than 8192 CPUs"),
    ],
)
def test_huge_lists_of_cpus_are_rejected(text: str, reason: str) -> None:
    """A small request cannot make the server spend seconds on parsing."""
    with pytest.raises(InvalidJobSpec, match=reason):
        parse_cpus(text)


def test_the_journal_contract_sets_every_field_of_a_spec() -> None:
    """A field with its default value would survive a journal that does not store it."""
    default = JobSpec("true")
    unset = [
        each.name
        for each in fields(JobSpec)
        for value in [getattr(default, each.name)]
        if getattr(EVERYTHING, each.name) == value == getattr(ON_A_TERMINAL, each.name)
    ]
    assert [] == unset


def test_limits_in_effect_name_none_to_remove() -> None:
    """Also if the server has neither defaults nor maxima."""
    removed = ResourceLimits(unlimited=("pids",), io=(IoLimit("/dev/vda", 7, unlimited=IO_RATES[1:]),))
    assert ResourceLimits(io=(IoLimit("/dev/vda", 7),)) == LimitBounds().apply(removed)


def test_own_compares_issuer_and_name() -> None:
    """The same name from another CA is another client; a job of an earlier version has no issuer."""
    record = JobRecord(new_job_id(), JobSpec("ls"), "ci", "", 1.0, issuer="CN=a")
    earlier = replace(record, issuer=None)
    assert record.belongs_to(ClientId("ci", "CN=a"))
    assert earlier.belongs_to(ClientId("ci", "CN=a"))
    assert not record.belongs_to(ClientId("ci", "CN=b"))
    assert not record.belongs_to(ClientId("CI", "CN=a"))
    assert not record.belongs_to(ClientId("ci", None))
