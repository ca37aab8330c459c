"""Checks of what a job gets: a session keyring of its own, and which privileges it may gain."""

import errno
import os
from collections.abc import Iterator

from ...linux.kernel import probes
from ..home import Home
from .findings import Finding, ok, warning

_KEYRING_REMEDIES = {
    errno.EDQUOT: "raise the quota of keys of the worker's user (sysctl kernel.keys.maxkeys)",
    errno.EPERM: "use a seccomp filter that allows keyctl(2)",
    errno.ENOSYS: "use a kernel with keyrings (CONFIG_KEYS) and a seccomp filter that allows keyctl(2)",
}


def check_jobs(home: Home) -> Iterator[Finding]:
    """Check what the worker does between the clone and the exec of a job."""
    del home
    yield _keyring()
    yield _privileges()


def _keyring() -> Finding:
    try:
        probes.session_keyring()
    except OSError as error:
        return warning(
            "session keyring",
            f"a job cannot have one of its own: {os.strerror(error.errno or 0)}; "
            "jobs start, and can use the keys in the session keyring of the server",
            _KEYRING_REMEDIES.get(error.errno or 0, "see keyctl(2)"),
        )
    return ok("session keyring", "each job has one of its own")


def _privileges() -> Finding:
    if probes.has_no_new_privs():
        text = "set for this process and so for all jobs: sudo works in none, and --new-privs has no effect"
    elif os.geteuid() == 0:
        text = "set for jobs with --user, unless they are started with --new-privs"
    else:
        text = "not set: sudo and other set-user-ID programs work in jobs"
    return ok("no_new_privs", text)
