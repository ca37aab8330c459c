"""Suites that run inside of the guest, on cgroup v2 with systemd as PID 1."""

import pytest

from .machine import Guest
from .payload import CHECKOUT

AS_USER = (
    *("systemd-run", "--wait", "--pipe", "--quiet", "--collect", "--uid=tester"),
    *("--property=Delegate=yes", "--property=OOMPolicy=continue"),
)
"""A service of an unprivileged user, with a control group of its own to manage."""


@pytest.mark.parametrize("prefix", [(), AS_USER], ids=["root", "user-service"])
@pytest.mark.parametrize("suite", ["guest/inside/limits_on_v2.py", "integration/test_cgroups_enforced.py"])
def test_suite_passes_in_the_guest(suite: str, prefix: tuple[str, ...], guest: Guest) -> None:
    """The tests of the suite all pass there; what they say is shown where they do not."""
    pytest_command = ("python3", "-m", "pytest", "-p", "no:cacheprovider", f"{CHECKOUT}/tests/{suite}")
    done = guest.run([*prefix, *pytest_command], timeout=500)
    said = done.stdout.decode() + done.stderr.decode()
    assert 0 == done.returncode, said
    assert " passed" in said, said
