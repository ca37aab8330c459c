"""Errors about limits in the words of the command."""

import pytest

from worker.cli.failures import words
from worker.cli.options.limit_words import in_options, in_settings
from worker.cli.options.limits import LIMITS
from worker.client.errors import RpcError
from worker.core.errors import InvalidJobSpec
from worker.core.model.limits import CpuLimit, IoLimit, LimitBounds, MemoryLimit, ResourceLimits


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_every_field_becomes_its_option(limit: object) -> None:
    """No error of the command has a name that the command does not take."""
    (found,) = [each for each in LIMITS if each is limit]
    assert f"{found.option}: too much" == in_options(f"limits.{found.field}: too much")
    assert f"{found.name}: too much" == in_settings(f"limits.{found.field}: too much")


@pytest.mark.parametrize(
    ("requested", "text"),
    [
        (
            ResourceLimits(memory=MemoryLimit(max=200 << 20)),
            "--memory: 200M is above this server's maximum of 100M",
        ),
        (ResourceLimits(cpu=CpuLimit(quota=2.0)), "--cpu: 2 is above this server's maximum of 1.5"),
        (ResourceLimits(pids=9), "--pids: 9 is above this server's maximum of 8"),
        (
            ResourceLimits(io=(IoLimit("/dev/vda", read_bytes_per_second=2048),)),
            "--io-read /dev/vda: 2K is above this server's maximum of 1K",
        ),
        (
            ResourceLimits(memory=MemoryLimit(max=(100 << 20) + 1)),
            "--memory: 100.0M is above this server's maximum of 100M",
        ),
        (ResourceLimits(cpuset="7"), "--cpus: CPU 7 is not among those that this server allows, 0-1"),
    ],
)
def test_an_excess_has_the_units_of_the_options(requested: ResourceLimits, text: str) -> None:
    """A value above the maximum is shown as the option takes it."""
    bounds = LimitBounds(
        maximum=ResourceLimits(
            cpu=CpuLimit(quota=1.5),
            memory=MemoryLimit(max=100 << 20),
            io=(IoLimit("/dev/vda", read_bytes_per_second=1024),),
            pids=8,
            cpuset="0-1",
        )
    )
    with pytest.raises(InvalidJobSpec) as caught:
        bounds.apply(requested)
    assert text == words(RpcError("InvalidArgument", str(caught.value)))


def test_a_controller_stands_for_its_limits() -> None:
    """What is wrong with all limits of a controller, or with a device, has the name of the options too."""
    assert "--io-...: there is no device /proc" == in_options("limits.io: there is no device /proc")
    assert "--memory: the limit is too low" == in_options("limits.memory: the limit is too low")
    assert "--cpu: not writable" == in_options("limits.cpu: not writable")
    assert "io: is empty" == in_settings("limits.io.device: is empty")


def test_a_remedy_names_options() -> None:
    """What an error recommends can be typed."""
    text = "set limits.memory.max too, make limits.memory.swap_max unlimited, or use cgroup v2"
    assert "set --memory too, make --swap unlimited, or use cgroup v2" == in_options(text)


@pytest.mark.parametrize("text", ["limits.conf: no such file", "limits."])
def test_other_texts_stay_as_they_are(text: str) -> None:
    """Only the names of limits are replaced."""
    assert text == in_options(text)
