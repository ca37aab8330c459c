"""All checks of `worker doctor`, one function for each subject."""

import errno
import os
from collections.abc import Iterator
from functools import partial

from ...client.settings import ClientSettings
from ...core.errors import JournalUnusable
from ...linux.journal import sqlite
from ...linux.kernel import probes
from ...linux.state.reserve import Reserve
from ..home import Home
from ..options.quantities import format_size
from ..private_files import exposed_files
from .certificate_checks import check_certificates, check_own_certificate, own_certificate
from .cgroup_checks import check_cgroups
from .file_system import file_system
from .findings import (
    Finding,
    missing,
    ok,
    tried,
    warning,
)
from .job_checks import check_jobs
from .server_checks import check_server
from .service_checks import check_service

_SCARCE_SPACE = 1 << 30
_FULL = {
    errno.ENOSPC: "free some space, or inodes (df -i)",
    errno.EDQUOT: "remove files of this user, or raise the quota",
}
_SCARCE_FILES = 4096
# A job needs up to three descriptors in the supervisor, and three for each channel in the recorder.


def examine(home: Home, client: ClientSettings) -> list[Finding]:
    """Run all checks; ``client`` says which server is asked. Nothing is changed or left behind.

    Where there is only a client, of a server elsewhere, what a server needs is not checked.
    """
    if _has_only_client(home, client):
        return [
            ok(
                "server here",
                "none: only the client is checked; WORKER_HOME=DIR checks the rest",
            ),
            *check_own_certificate(home, client),
            *check_server(client),
        ]
    checks = (
        check_cgroups,
        _check_kernel,
        check_jobs,
        check_state,
        check_access,
        _check_journal,
        partial(check_certificates, client=client),
        lambda _: check_server(client),
        check_service,
    )
    return [finding for check in checks for finding in check(home)]


def _has_only_client(home: Home, client: ClientSettings) -> bool:
    """Whether no server was ever started here, and the client has keys elsewhere, as after a join."""
    return (
        "WORKER_HOME" not in os.environ
        and not home.path.exists()
        and own_certificate(home, client) is not None
    )


def _check_kernel(home: Home) -> Iterator[Finding]:
    del home
    yield tried(
        "pidfd",
        probes.pidfd,
        missing,
        "use Linux 5.4 or later, and a seccomp filter that allows pidfd_open(2)",
    )
    yield tried(
        "pidfd exit info",
        probes.exit_kept_by_pidfd,
        warning,
        "use Linux 6.15 or later, where exit codes of jobs survive a crash of the supervisor",
    )
    files = probes.open_files()
    if files >= _SCARCE_FILES:
        yield ok("open files", f"up to {files} per process")
    else:
        yield warning(
            "open files",
            f"only {files} per process, enough for about {files // 5} concurrent jobs",
            f"set LimitNOFILE={_SCARCE_FILES} in the server's unit, or ulimit -Hn {_SCARCE_FILES}",
        )


def check_state(home: Home) -> Iterator[Finding]:
    """Check the file system of WORKER_HOME, which may not exist yet."""
    place = next(each for each in (home.path, *home.path.parents) if each.exists())
    found = file_system(place)
    subject, where = "state", f"{home.path} on {found.kind}, {format_size(found.free)} free"
    if found.read_only or not os.access(place, os.W_OK):
        why = "mounted read-only" if found.read_only else f"{place} is not writable for uid {os.geteuid()}"
        yield missing(subject, f"{where}: {why}", "set WORKER_HOME to a directory of your own")
        return
    if found.network:
        yield warning(
            subject,
            f"{where}: locks and inotify are unreliable on a network file system",
            "set WORKER_HOME to a directory on a local disk",
        )
    elif found.free < _SCARCE_SPACE:
        yield warning(
            subject,
            where,
            f"free some space: less than {format_size(_SCARCE_SPACE)} may be too little for the output of "
            "jobs, which it stores until they are removed",
        )
    else:
        yield ok(subject, where)
    if missing_reserve := Reserve(str(home.path)).missing():
        yield warning(
            "reserve",
            f"{format_size(missing_reserve)} of the disk space for the ends of jobs are used up",
            "free some space: a server then fills the reserve again",
        )
    if place == home.path:
        yield tried(
            "recording",
            lambda: probes.recording(place),
            missing,
            f"make {home.path} writable for this user, on a file system with FIFOs, splice(2) and locks",
            _FULL,
        )


def check_access(home: Home) -> Iterator[Finding]:
    """Check that no other user has access to WORKER_HOME, which may not exist yet."""
    if not home.path.exists():
        return
    exposed = list(exposed_files(home.path))
    if exposed:
        yield warning(
            "access",
            f"other users have access to {len(exposed)} files and directories, such as {exposed[0]}",
            "a server corrects that when it starts; environments of jobs with passwords may have been read",
        )
    else:
        yield ok("access", f"no other user has access to {home.path}")


def _check_journal(home: Home) -> Iterator[Finding]:
    if not home.journal.exists():
        return
    try:
        unreadable = sqlite.unreadable_records(home.journal)
    except JournalUnusable as error:
        text, _, remedy = str(error).partition("; ")
        yield missing("journal", text, remedy or "see `state` above")
        return
    for job, reason in unreadable.items():
        yield warning(
            "journal",
            f"the record of job {job} cannot be read: {reason}",
            f"restore {home.journal} from a backup; until then the server does not know the job",
        )
    if not unreadable:
        yield ok("journal", "all records are readable")
