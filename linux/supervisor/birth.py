"""The birth of a job: clone, and everything between clone and exec.

The child is born inside its cgroup of v2 (clone3) and joins those of v1 by itself, so that no
instruction of the job runs outside. It waits for its release until the parent has recorded it.
If it never becomes the job it writes that into the history itself: its parent may be dead by then.
"""

import errno
import fcntl
import os
import resource
import signal
from dataclasses import dataclass
from functools import cache

from .. import syscalls
from ..history import write_stillborn
from ..values import SpawnPlan

_ERROR_FD, _RELEASE_FD, _HISTORY_FD = 3, 4, 5
_ALL_SIGNALS = frozenset(map(int, signal.valid_signals()))


@dataclass(frozen=True, slots=True)
class Newborn:
    """A child that waits: a byte into ``release`` lets it go, EOF there ends it.

    ``errors`` tells why it could not be executed, as ``stage errno``; EOF: it was.
    """

    pid: int
    release: int
    errors: int


def bear(plan: SpawnPlan, stdout: int, stderr: int, history: int) -> Newborn:
    """Clone a child for a plan; OSError if the kernel cannot."""
    release_read, release_write = os.pipe()
    try:
        error_read, error_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        os.close(release_read)
        os.close(release_write)
        raise
    _changed_signals()
    # A signal in the child, before it has reset its handlers, would be taken for the parent's.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
    try:
        pid, joins = _clone(plan)
    except OSError:
        for fd in (release_read, release_write, error_read, error_write):
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid == 0:
        os.close(release_write)
        _be_child(plan, joins, (release_read, error_write, stdout, stderr, history))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(release_read)
    os.close(error_write)
    return Newborn(pid, release_write, error_read)


def _clone(plan: SpawnPlan) -> tuple[int, tuple[str, ...]]:
    """Return the pid (0 in the child), and the files by which the child joins its other cgroups.

    On v1 that is `tasks`: a thread that moves itself and no more spares the kernel (5.4) a lock that
    takes an RCU grace period after idleness, 10 ms and more; and the child has but one thread.
    """
    unified = plan.placement.unified
    legacy = tuple(f"{group}/tasks" for group in plan.placement.legacy)
    if unified is None:
        return os.fork(), legacy
    cgroup = os.open(unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.clone3_into_cgroup(cgroup), legacy
    except OSError as error:
        # Linux before 5.7, and containers whose seccomp filter refuses clone3.
        if error.errno not in {errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EINVAL}:
            raise
        return os.fork(), (*legacy, f"{unified}/cgroup.procs")
    finally:
        os.close(cgroup)


def _be_child(plan: SpawnPlan, joins: tuple[str, ...], descriptors: tuple[int, int, int, int, int]) -> None:
    """Become the job. Never returns: whatever happens, this copy of the supervisor must not run on."""
    _, errors, *_, history = descriptors
    stage = "cgroup"
    try:
        for file in joins:
            _join(file)
        stage = "session"
        _reset_signals()
        os.setsid()
        os.umask(0o022)
        stage = "descriptors"
        _arrange_descriptors(*descriptors)
        errors, history = _ERROR_FD, _HISTORY_FD
        stage = "limits"
        _reset_limits()  # not before: the supervisor's descriptors are more than it leaves
        stage = "user"
        _become(plan)
        stage = "working directory"
        os.chdir(plan.working_directory)
        stage = "release"
        if not os.read(_RELEASE_FD, 1):
            raise InterruptedError(errno.EINTR, "the supervisor died before it let go")
        stage = "exec"
        _execute(plan)
    except OSError as error:
        complaint = f"{stage} {error.errno}"
        try:
            write_stillborn(history, complaint)
        finally:
            os.write(errors, complaint.encode())
    finally:
        os._exit(127)


def _join(file: str) -> None:
    fd = os.open(file, os.O_WRONLY)
    os.write(fd, b"0")  # 0 means: the writer itself
    os.close(fd)


def _reset_signals() -> None:
    """Undo what Python does (it ignores SIGPIPE and SIGXFSZ) and what a parent may have left."""
    for number in _changed_signals():
        signal.signal(number, signal.SIG_DFL)
    syscalls.reset_reserved_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@cache
def _changed_signals() -> tuple[int, ...]:
    """Return the signals that this process handles or ignores; asked once, for it takes a while."""
    return tuple(each for each in _ALL_SIGNALS if signal.getsignal(each) not in {signal.SIG_DFL, None})


def _reset_limits() -> None:
    """Give the limits of a fresh service: many programs break with more than 1024 descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = 1024 if hard == resource.RLIM_INFINITY else min(1024, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)  # while still privileged
    try:
        os.write(fd, b"0")
    except PermissionError:
        pass  # lowering it needs CAP_SYS_RESOURCE; then it is our own parent's choice
    finally:
        os.close(fd)


def _arrange_descriptors(release: int, errors: int, stdout: int, stderr: int, history: int) -> None:
    """Leave 0 to 2 for the job, and those that exec closes."""
    # First out of the way, then into place.
    release, errors, stdout, stderr, history = (
        _above(fd, 10) for fd in (release, errors, stdout, stderr, history)
    )
    null = _above(os.open("/dev/null", os.O_RDONLY), 10)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.dup2(errors, _ERROR_FD, inheritable=False)
    os.dup2(release, _RELEASE_FD, inheritable=False)
    os.dup2(history, _HISTORY_FD, inheritable=False)
    syscalls.close_from(_HISTORY_FD + 1)


def _above(fd: int, least: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)


def _become(plan: SpawnPlan) -> None:
    if plan.uid is not None and plan.gid is not None:
        os.setgroups(plan.groups)
        os.setresgid(plan.gid, plan.gid, plan.gid)
        os.setresuid(plan.uid, plan.uid, plan.uid)


def _execute(plan: SpawnPlan) -> None:
    """Look the command up in the job's own PATH, as execvpe(3) does; raise what describes the failure."""
    argv = [argument.encode() for argument in plan.argv]
    env = {name.encode(): value.encode() for name, value in plan.env.items()}
    if b"/" in argv[0]:
        os.execve(argv[0], argv, env)
    denied: OSError | None = None
    for directory in env.get(b"PATH", b"").split(b":"):
        try:
            os.execve(b"%b/%b" % (directory or b".", argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
    raise denied or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
