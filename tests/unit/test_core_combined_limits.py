"""The limits of a server and of a rule of its policy together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import InvalidJobSpec
from worker.core.model.combined_limits import combined
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    LimitBounds,
    MemoryLimit,
    ResourceLimits,
)

NUMBERS = st.none() | st.integers(1, 5)
LIMITS = st.builds(
    lambda quota, memory, pids, rate: ResourceLimits(
        CpuLimit(quota), MemoryLimit(memory), () if rate is None else (IoLimit("/d", rate),), pids
    ),
    *(4 * [NUMBERS]),
)
BOUNDS = st.builds(LimitBounds, LIMITS, LIMITS)
NONE = ResourceLimits()


def values(limits: ResourceLimits) -> list[float | None]:
    """Return the limits of LIMITS."""
    rate = limits.io[0].read_bytes_per_second if limits.io else None
    return [limits.cpu.quota, limits.memory.max, limits.pids, rate]


@given(BOUNDS, BOUNDS, LIMITS)
def test_what_applies_to_a_job(server: LimitBounds, rule: LimitBounds, requested: ResourceLimits) -> None:
    """A request within both maxima is kept; what is not requested is the first default, never too high."""
    both = combined(server, rule)
    parts = zip(
        *map(values, (requested, rule.default, server.default, server.maximum, rule.maximum)), strict=True
    )
    expected = []
    too_much = False
    for wanted, *defaults, one, other in parts:
        most = min((each for each in (one, other) if each is not None), default=None)
        too_much |= wanted is not None and most is not None and wanted > most
        default = next((each for each in defaults if each is not None), None)
        if wanted is None and default is not None and most is not None:
            default = min(default, most)
        expected.append(next((each for each in (wanted, default, most) if each is not None), None))
    if too_much:
        with pytest.raises(InvalidJobSpec):
            both.apply(requested)
    else:
        assert expected == values(both.apply(requested))


def test_cpus_must_be_in_both() -> None:
    """The CPUs of a job are those that server and rule both allow; none in common is an error."""

    def cpus(text: str) -> LimitBounds:
        return LimitBounds(maximum=ResourceLimits(cpuset=text))

    assert "2,3" == combined(cpus("0-3"), cpus("2-5")).apply(NONE).cpuset
    assert "2-5" == combined(LimitBounds(), cpus("2-5")).apply(NONE).cpuset
    with pytest.raises(InvalidJobSpec, match="no CPU is both in 0 and in 1"):
        combined(cpus("0"), cpus("1"))


def test_a_rule_without_limits_changes_nothing() -> None:
    """The bounds of the server apply as they are."""
    server = LimitBounds(ResourceLimits(pids=5), ResourceLimits(pids=3))
    assert server is combined(server, LimitBounds())
