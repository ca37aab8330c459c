"""Suites that run in the guest, on cgroup v2 with systemd as PID 1."""

import re

import pytest

from .machine import Guest
from .payload import CHECKOUT

SUITES = (
    "guest/inside/limits_on_v2.py",
    "integration/test_cgroups_enforced.py",
    "integration/test_job_environment.py",
)

AS_USER = (
    *("systemd-run", "--wait", "--pipe", "--quiet", "--collect", "--uid=tester"),
    *("--property=Delegate=yes", "--property=OOMPolicy=continue"),
)
"""A service of an unprivileged user, with a delegated cgroup."""


@pytest.mark.parametrize("prefix", [(), AS_USER], ids=["root", "user-service"])
def test_suites_pass_in_the_guest(prefix: tuple[str, ...], guest: Guest) -> None:
    """All tests of the suites pass in the guest; their output is shown if they do not."""
    suites = (f"{CHECKOUT}/tests/{suite}" for suite in SUITES)
    pytest_command = ("python3", "-m", "pytest", "-p", "no:cacheprovider", *suites)
    done = guest.run([*prefix, *pytest_command], timeout=500)
    output = done.stdout.decode() + done.stderr.decode()
    assert 0 == done.returncode, output
    for suite in SUITES:
        assert re.search(rf"{suite} [sx]*\.", output), output
