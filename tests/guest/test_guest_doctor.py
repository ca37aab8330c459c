"""The doctor on cgroup v2 with systemd as PID 1: what it says of limits is what a server gets."""

import json
from collections.abc import Iterator, Mapping

import pytest

from .installations import CGROUPS, Installation, RootInstallation
from .machine import Guest

LIMITS = {
    "--cpu": "0.5",
    "--cpu-weight": "50",
    "--memory": "64M",
    "--memory-high": "32M",
    "--pids": "20",
    "--cpus": "0",
}
"""Options of limits, each of which a host may lack, with a value."""


class UserWithSystemd(Installation):
    """A user with a systemd instance types `worker up`, in a cgroup that is not delegated to the user."""

    LINGER = "enable-linger"
    SYSTEMD = "start"

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        guest.check("loginctl", self.LINGER, self.user)
        guest.check("systemctl", self.SYSTEMD, "user@1000")

    def up(self) -> None:
        """Start it from the current cgroup."""
        self.worker("up")


class UserWithoutSystemd(UserWithSystemd):
    """The same without a systemd instance."""

    LINGER = "disable-linger"
    SYSTEMD = "stop"


@pytest.fixture(params=[RootInstallation, UserWithSystemd, UserWithoutSystemd])
def installation(request: pytest.FixtureRequest, guest: Guest) -> Iterator[Installation]:
    """A worker that is not running yet; nothing remains of it afterwards."""
    kind: type[Installation] = request.param
    made = kind(guest)
    made.worker("certs", "init", "--key-type", "p256")
    yield made
    made.down()
    assert [] == made.cgroups()


def findings(installation: Installation) -> Mapping[str, Mapping[str, str]]:
    """Return the findings of the doctor by subject."""
    found = json.loads(installation.worker("doctor", "-o", "json", code=None))["findings"]
    return {each["subject"]: each for each in found}


def verdicts(found: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Return the verdicts on control groups and limits."""
    subjects = [each for each in found if each.startswith(("limit", "control groups", "clone3"))]
    return {each: found[each]["verdict"] for each in subjects}


def left(guest: Guest) -> str:
    """Return the cgroups of the doctor: its scopes, and what it tries in them."""
    names = ("(", "-name", "worker-*-doctor-*", "-o", "-name", "worker-probe-*", ")")
    return guest.check("find", CGROUPS, "-type", "d", *names)


def test_a_limit_is_enforced_if_the_doctor_says_so(installation: Installation) -> None:
    """This holds before the server is started and while it runs; the doctor leaves nothing behind."""
    found = findings(installation)
    # systemd removes a scope a moment after its last process has ended.
    installation.wait_until(f"! find {CGROUPS} -type d -name 'worker-*-doctor-*' | grep -q .")
    assert "" == left(installation.guest)
    installation.up()
    assert verdicts(found) == verdicts(findings(installation))
    usable = found["control groups"]["verdict"] == "ok"
    assert usable == (not isinstance(installation, UserWithoutSystemd))
    for option, value in LIMITS.items():
        works = usable and found[f"limit {option}"]["verdict"] == "ok"
        installation.worker("start", option, value, "true", code=0 if works else 1)
    if usable:
        assert "ok" == found["limit --memory"]["verdict"] == found["clone3 into a cgroup"]["verdict"]
