"""The zygote: what its children do, and what happens when the supervisor or the zygote dies."""

import errno
import fcntl
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from worker.core.model.channel import Channel
from worker.core.model.execution import Execution
from worker.core.model.job import JobSpec, new_job_id
from worker.core.ports import Placement, RecordedFifo
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.ipc.event_loop import Loop
from worker.linux.kernel import procfs
from worker.linux.kernel.locks import holder_of, lock_holder, open_lock, seize_lock
from worker.linux.recorder.client import RecorderClient
from worker.linux.state.history import (
    read_history,
)
from worker.linux.state.job_directory import fifo_path
from worker.linux.supervisor.job import Job, Observer, Services
from worker.linux.supervisor.retried_writes import RetriedWrites
from worker.linux.zygote.client import PROGRAM, Zygote, ZygoteDied
from worker.linux.zygote.plan import sealed

from ..support.waiting import wait_until
from ..support.zygotes import PATIENCE, Outcome, Starter, ending_of, has_ended, shell

SOURCE = Path(PROGRAM).parent
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a zygote with libc and sanitizers: an error in its memory ends it with a message."""
    program = tmp_path_factory.mktemp("sanitized") / "zygote"
    flags = ["-DHOSTED", "-std=gnu11", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [str(file) for file in SOURCE.glob("*.c") if file.name != "start.c"]
    try:
        done = subprocess.run(
            ["cc", *flags, "-o", str(program), *sources], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no C compiler")
    if "cannot find" in done.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    return str(program)


@pytest.fixture(params=["installed", "sanitized"])
def starter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    """Start commands with the installed zygote, and with one that has sanitizers."""
    program = PROGRAM if request.param == "installed" else request.getfixturevalue("sanitized")
    made = Starter(tmp_path, program)
    yield made
    made.zygote.close()


# --- children


def test_arguments_and_environment_arrive_unchanged(starter: Starter) -> None:
    """Also those that are empty, large in number, or not ASCII."""
    script = 'printf "%s|" "$0" "$#" "$1" "$2" "$EMPTY" "$NAME"'
    args = ["", "ä\n", *("x" for _ in range(20000))]
    outcome = starter.start(shell(script, "zero", *args, env={"EMPTY": "", "NAME": "wert=1"}))
    assert Outcome(0, "", "zero|20002||ä\n||wert=1|".encode()) == outcome


def test_arguments_of_almost_two_megabytes(starter: Starter) -> None:
    """The plan may be as large as the kernel allows arguments to be."""
    plan = shell('printf "%s" "$*" | wc -c', "zero", *("y" * 100_000 for _ in range(18)))
    assert b"1800017\n" == starter.start(plan).output


def test_more_arguments_than_the_kernel_accepts(starter: Starter) -> None:
    """The failure is that of execve(2)."""
    plan = shell(":", "zero", *("y" * 100_000 for _ in range(40)))
    assert Outcome(127, f"exec {errno.E2BIG}", b"") == starter.start(plan)


def test_the_process_records_itself(starter: Starter) -> None:
    """The history has the pid and start time of the process by the time the command runs."""
    outcome = starter.start(shell(f"cat {starter.history}; echo; cat /proc/$$/stat"))
    history = read_history(starter.history)
    assert history is not None
    stat = outcome.output.splitlines()[-1].split()
    assert (history.start.pid, history.start.start) == (int(stat[0]), int(stat[21]))
    assert f'{{"process": {{"pid": {history.start.pid},'.encode() in outcome.output


def test_a_start_that_was_revoked(starter: Starter) -> None:
    """Without its provisional history a child never executes the command."""
    assert Outcome(127, f"record {errno.ENOENT}", b"") == starter.start(shell("echo ran"), revoked=True)


@pytest.mark.parametrize(
    ("plan", "failure"),
    [
        (SpawnPlan(JobSpec("/nowhere/program")), f"exec {errno.ENOENT}"),
        (SpawnPlan(JobSpec("program", env={"PATH": "/nowhere:/etc/passwd"})), f"exec {errno.ENOTDIR}"),
        (SpawnPlan(JobSpec("passwd", env={"PATH": "/etc:/nowhere"})), f"exec {errno.EACCES}"),
        (SpawnPlan(JobSpec("/etc")), f"exec {errno.EACCES}"),
        (
            replace(shell(":"), spec=JobSpec("true", working_directory="/x")),
            f"working directory {errno.ENOENT}",
        ),
        (replace(shell(":"), placement=Placement(None, ("/x",))), f"cgroup {errno.ENOENT}"),
    ],
    ids=str,
)
def test_a_failure(starter: Starter, plan: SpawnPlan, failure: str) -> None:
    """It is reported as stage and errno, and the history says that the command was never executed."""
    assert Outcome(127, failure, b"") == starter.start(plan)
    if not failure.startswith("cgroup"):  # before it has recorded itself there is no history
        history = read_history(starter.history)
        assert history is not None
        assert history.never_executed


def exactly(directory: Path) -> SpawnPlan:
    """Return a plan that shows its working directory, which is entered without following links."""
    plan = shell("pwd -P")
    execution = Execution("/bin/sh", directory=str(directory))
    return replace(plan, spec=replace(plan.spec, execution=execution, working_directory="/nowhere"))


def test_a_directory_that_is_entered_without_links(starter: Starter, tmp_path: Path) -> None:
    """Each component may have any length and any characters; neither the last nor another may be a link."""
    directory = tmp_path / ("x" * 255) / "a b\n" / "c"
    directory.mkdir(parents=True)
    (tmp_path / "link").symlink_to(directory.parent)
    assert Outcome(0, "", f"{directory}\n".encode()) == starter.start(exactly(directory))
    assert Outcome(0, "", b"/\n") == starter.start(exactly(Path("/")))
    not_a_directory = f"working directory {errno.ENOTDIR}"
    for path in (tmp_path / "link", tmp_path / "link" / "c", Path(starter.history)):
        assert Outcome(127, not_a_directory, b"") == starter.start(exactly(path))
    assert f"working directory {errno.ENOENT}" == starter.start(exactly(tmp_path / "no")).failure


@AS_ROOT
def test_a_directory_is_entered_as_the_user_of_the_job(starter: Starter, tmp_path: Path) -> None:
    """What root may search does not count."""
    directory = tmp_path / "closed" / "open"
    directory.mkdir(parents=True)
    directory.parent.chmod(0o700)
    plan = replace(exactly(directory), uid=12345, gid=12345)
    assert f"working directory {errno.EACCES}" == starter.start(plan).failure


def test_nothing_of_the_supervisor_is_inherited(starter: Starter) -> None:
    """A job has no signal ignored or blocked, and no other descriptor than 0 to 2."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        outcome = starter.start(
            shell("ls /proc/$$/fd; umask; exec grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status")
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGUSR2, ignored)
    assert [b"0", b"1", b"2"] == outcome.output.splitlines()[:3]
    assert b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000" in outcome.output
    assert b"\n0022\n" in outcome.output


def test_a_low_limit_of_descriptors(starter: Starter) -> None:
    """A zygote with few descriptors holds the FIFOs of the few jobs that there can be."""
    starter.start(shell("true"))
    zygote = holder_of(starter.directory / "zygote.lock")
    hard = resource.prlimit(zygote, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (64, hard))
    fifo = starter.directory / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
    starter.zygote.hold([held])
    assert 0 == starter.start(shell("true")).code
    os.close(held)
    wait_until(lambda: holds(fifo))


@AS_ROOT
def test_another_user(starter: Starter) -> None:
    """All ids are those of the plan, and the supplementary groups are replaced."""
    plan = replace(shell("id -u; id -g; id -G"), uid=12345, gid=23456, groups=(1, 34567))
    assert b"12345\n23456\n23456 1 34567\n" == starter.start(plan).output


def test_many_open_descriptors_of_the_supervisor(starter: Starter) -> None:
    """A job has a limit of 1024 descriptors, and none of those of its supervisor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3100:
        pytest.skip("the hard limit of descriptors is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(3000)]
    try:
        starter.zygote.hold(crowd)
        outcome = starter.start(shell("ulimit -n; exec ls /proc/self/fd"))  # ls opens 3 itself
        assert b"1024\n0\n1\n2\n3\n" == outcome.output
        starter.zygote.drop(crowd)
    finally:
        for fd in crowd:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_plan_cannot_be_changed() -> None:
    """It is in a memfd with all seals."""
    plan = sealed(b"plan")
    try:
        with pytest.raises(PermissionError):
            os.pwrite(plan, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(plan, 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(plan, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        os.close(plan)


# --- the death of the supervisor


def zygote_alone(tmp_path: Path, program: str = PROGRAM) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Return a zygote and the supervisor's end of its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [program, str(theirs.fileno()), str(tmp_path / "lock")]
        return subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE), ours


def test_the_supervisor_dies(tmp_path: Path) -> None:
    """A zygote that holds nothing exits with 0 and prints nothing."""
    zygote, ours = zygote_alone(tmp_path)
    ours.close()
    assert (None, b"") == zygote.communicate(timeout=PATIENCE)
    assert 0 == zygote.returncode


SUPERVISOR = """
import os, sys
from pathlib import Path
from worker.linux.zygote.client import Zygote
zygote = Zygote(Path(sys.argv[1]))
zygote.begin()
zygote.hold([os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in sys.argv[2:]])
os.kill(os.getpid(), 9)
"""


def orphan(tmp_path: Path, *fifos: Path) -> int:
    """Have a supervisor die whose zygote holds FIFOs; return the pidfd of the zygote."""
    for fifo in fifos:
        os.mkfifo(fifo)
    lock = tmp_path / "lock"
    subprocess.run([sys.executable, "-c", SUPERVISOR, str(lock), *map(str, fifos)], check=False)
    fd = open_lock(lock)
    try:
        while not (holder := lock_holder(fd)):  # it may be about to take the lock
            pass
    finally:
        os.close(fd)
    return os.pidfd_open(holder)


def holds(fifo: Path) -> bool:
    """Whether a process has the FIFO open for reading."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True


def test_the_fifos_outlive_the_supervisor(tmp_path: Path) -> None:
    """The zygote holds them until the next supervisor ends it."""
    fifos = tmp_path / "one", tmp_path / "two"
    pidfd = orphan(tmp_path, *fifos)
    wait_until(lambda: all(map(holds, fifos)))
    assert not has_ended(pidfd, 0)
    lock = open_lock(tmp_path / "lock")
    seize_lock(lock)
    os.close(lock)
    assert has_ended(pidfd, PATIENCE)
    assert not any(map(holds, fifos))
    os.close(pidfd)


def test_a_stopped_zygote_of_a_dead_supervisor(tmp_path: Path) -> None:
    """The next zygote ends it, and takes over: SIGTERM would stay pending in it."""
    pidfd = orphan(tmp_path, tmp_path / "one")
    signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
    starter = Starter(tmp_path, PROGRAM)
    starter.zygote = Zygote(tmp_path / "lock")
    assert 0 == starter.start(shell("true")).code
    assert has_ended(pidfd, PATIENCE)
    os.close(pidfd)
    starter.zygote.close()


def test_a_zygote_of_a_dead_supervisor_sleeps(tmp_path: Path) -> None:
    """It looks at the files now and then: it goes to sleep again after each look."""
    fifo = tmp_path / "one"
    pidfd = orphan(tmp_path, fifo)
    status = Path(f"/proc/{holder_of(tmp_path / 'lock')}/status")
    before = sleeps(status)
    wait_until(lambda: sleeps(status) > before + 1)
    fifo.unlink()
    assert has_ended(pidfd, PATIENCE)
    os.close(pidfd)


def sleeps(status: Path) -> int:
    """Return how often a process has given up its processor to wait."""
    found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", status.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_jobs_end_after_the_supervisor(tmp_path: Path) -> None:
    """The zygote exits once all FIFOs that it holds were unlinked: no process is left behind."""
    fifos = tmp_path / "one", tmp_path / "two"
    pidfd = orphan(tmp_path, *fifos)
    for fifo in fifos:
        fifo.unlink()
    assert has_ended(pidfd, PATIENCE)
    os.close(pidfd)


def test_a_fifo_is_held_until_it_is_dropped(starter: Starter) -> None:
    """Each FIFO by itself, and also by the next zygote if one dies."""
    fifos = [starter.directory / name for name in ("one", "two")]
    descriptors = []
    for fifo in fifos:
        os.mkfifo(fifo)
        descriptors.append(os.open(fifo, os.O_RDWR | os.O_CLOEXEC))
    starter.zygote.hold(descriptors)
    starter.start(shell("true"))
    zygote = holder_of(starter.directory / "zygote.lock")
    os.kill(zygote, signal.SIGKILL)
    os.waitpid(zygote, 0)
    with pytest.raises(ZygoteDied):
        starter.start(shell("true"))
    starter.start(shell("true"))
    for fd in descriptors:
        os.close(fd)
    wait_until(lambda: all(map(holds, fifos)))
    starter.zygote.drop(descriptors[:1])
    wait_until(lambda: not holds(fifos[0]))
    assert holds(fifos[1])


# --- the death of the zygote


def test_a_zygote_that_is_stopped(tmp_path: Path) -> None:
    """It is killed after its patience, as if it had died: the supervisor must not block."""
    starter = Starter(tmp_path, PROGRAM)
    starter.zygote = Zygote(tmp_path / "zygote.lock", patience=0.3)
    starter.start(shell("true"))
    pid = holder_of(tmp_path / "zygote.lock")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ZygoteDied):
        starter.start(shell("true"))
    assert -signal.SIGKILL == ending_of(pid)
    starter.zygote.close()


class FullLoop(Loop):
    """The kernel refuses further watches (epoll(7), max_user_watches)."""

    def watch(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Refuse."""
        del fd, callback, events
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class NoObserver(Observer):
    """Ignores all events."""


def new_job(directory: Path, loop: Loop, zygote: Zygote) -> Job:
    """Return a job with a FIFO in this directory."""
    recorder = RecorderClient(loop, directory / "lock", lambda *_: None, lambda *_: None, lambda *_: None)
    fifo = fifo_path(directory, Channel.OUTPUT)
    if not os.path.exists(fifo):
        os.mkfifo(fifo)
    plan = replace(shell("true"), sinks={Channel.OUTPUT: RecordedFifo(fifo, str(directory), 65536)})
    services = Services("g", loop, zygote, recorder, RetriedWrites())
    return Job(str(new_job_id()), str(directory), plan, None, services, NoObserver())


def test_a_child_that_cannot_be_watched(tmp_path: Path) -> None:
    """The start fails, and nothing is cloned."""
    zygote = Zygote(tmp_path / "zygote.lock")
    job = new_job(tmp_path, FullLoop(), zygote)
    try:
        with pytest.raises(OSError, match="No space left"):
            job.spawn()
        assert 0 == job.main.pid
    finally:
        zygote.close()


def test_zygotes_that_die_at_once(tmp_path: Path) -> None:
    """After some of them the start fails and leaves no history; a later start succeeds."""
    job = new_job(tmp_path, Loop(), Zygote(tmp_path / "zygote.lock", program="/bin/false"))
    with pytest.raises(ZygoteDied):
        job.spawn()
    assert [] == list(tmp_path.glob("history*"))
    zygote = Zygote(tmp_path / "zygote.lock")
    job = new_job(tmp_path, Loop(), zygote)
    job.spawn()
    assert 0 == ending_of(job.main.pid)
    zygote.close()


def test_the_memory_of_a_zygote(tmp_path: Path) -> None:
    """It has a few pages: each clone copies what it has."""
    starter = Starter(tmp_path, PROGRAM)
    starter.start(shell("true"))
    stat = procfs.stat(holder_of(tmp_path / "zygote.lock"))
    assert stat is not None
    status = Path(f"/proc/{holder_of(tmp_path / 'zygote.lock')}/statm").read_text().split()
    assert int(status[1]) <= 10
    starter.zygote.close()
