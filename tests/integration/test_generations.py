"""Supervisors come and go, of other versions too; the jobs and their ends stay."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from worker import JobId, JobSpec
from worker.core.ending import Cause, Channel, End, Exited, Lost, Signaled
from worker.core.errors import SpawnerUnavailable
from worker.core.job import JobState, new_job_id
from worker.core.ports import Placement, Process
from worker.linux.layout import Layout, history_path, socket_address
from worker.linux.locks import lock_holder, open_lock
from worker.linux.messages import PROTOCOL, Decoder, encode
from worker.linux.outputs import RecorderStore
from worker.linux.spawner import SupervisorSpawner

Until = Callable[[Callable[[], bool]], None]

OLDER = "older"

keeps_exit_codes = pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15),
    reason="before Linux 6.15 the kernel forgets the exit code of somebody else's child",
)


class Machine:
    """A state directory, and servers of any generation, one after the other."""

    def __init__(self, home: Path, until: Until) -> None:
        self.home = home
        self.layout = Layout(home)
        self.until = until

    @asynccontextmanager
    async def server(self, generation: str | None = None) -> AsyncIterator["Server"]:
        """Be a server of that generation for a while; None: of this one."""
        spawner, outputs = SupervisorSpawner(self.home, generation=generation), RecorderStore(self.home)
        try:
            yield Server(spawner, outputs, await spawner.recover())
        finally:
            await spawner.close()
            await outputs.close()

    def generations(self) -> dict[str, int]:
        """Return the supervisors that run."""
        found = {}
        for lock in self.layout.supervisor.rglob("lock"):
            fd = open_lock(lock)
            holder = lock_holder(fd)
            os.close(fd)
            if holder:
                found[lock.parent.name] = holder
        return found

    def await_supervisors(self, count: int) -> dict[str, int]:
        """Wait until so many run, and return them."""
        self.until(lambda: len(self.generations()) == count)
        return self.generations()


class Server:
    """What a server does with a spawner."""

    def __init__(
        self, spawner: SupervisorSpawner, outputs: RecorderStore, found: dict[JobId, Process]
    ) -> None:
        self.spawner = spawner
        self.outputs = outputs
        self.found = found

    async def start(self, *command: str, grace: float = 10.0, timeout: float | None = None) -> JobId:
        """Start a job."""
        job = new_job_id()
        spec = JobSpec(command[0], command[1:], grace=grace, timeout=timeout)
        sinks = await self.outputs.create(job, spec.channels)
        self.found[job] = await self.spawner.spawn(job, spec, Placement(), sinks)
        return job

    async def end(self, job: JobId) -> End:
        """Wait for the end of a job, and forget it."""
        end = await asyncio.wait_for(self.found[job].wait(), 60)
        await self.spawner.forget(job)
        return end

    async def output(self, job: JobId) -> bytes:
        """Return what a job has written so far."""
        return await self.outputs.read(job, Channel.OUTPUT, 0, 65520)


@pytest.fixture
def machine(tmp_path: Path, until: Until) -> Iterator[Machine]:
    """A state directory on which no supervisor is left afterwards."""
    machine = Machine(tmp_path / "state", until)
    yield machine
    machine.await_supervisors(0)


def test_an_older_generation_serves_its_jobs_to_their_end(machine: Machine) -> None:
    """A new version starts jobs by a supervisor of its own; the older one leaves after its last job."""

    async def upgrade() -> None:
        async with machine.server(OLDER) as server:
            old = await server.start("sleep", "1000")
        async with machine.server() as server:
            assert {old} == set(server.found)
            new = await server.start("sh", "-c", "echo new; exit 3")
            supervisors = machine.generations()
            assert 2 == len(supervisors)
            assert supervisors[OLDER] == parent(server.found[old].pid)
            assert Exited(3) == (await server.end(new)).ending
            assert b"new\n" == await server.output(new)
            await server.found[old].stop(signal.SIGTERM, 5)
            end = await server.end(old)
            assert (Signaled(signal.SIGTERM), Cause.STOPPED) == (end.ending, end.cause)
            await asyncio.to_thread(machine.await_supervisors, 1)
            assert OLDER not in machine.generations()
        async with machine.server() as server:
            assert {} == server.found
            assert not machine.layout.generation(OLDER).exists()

    asyncio.run(upgrade())


@keeps_exit_codes
def test_jobs_of_a_dead_older_generation_are_taken_over(machine: Machine) -> None:
    """If an older supervisor dies, the newer one goes on with its jobs, their output and their ends."""

    async def upgrade(gate: Path) -> None:
        async with machine.server(OLDER) as server:
            old = await server.start("sh", "-c", f"echo one; cat {gate}; echo two; exit 7")
        async with machine.server() as server:
            kill(machine.generations()[OLDER])
            await asyncio.to_thread(gate.write_text, "")
            assert Exited(7) == (await server.end(old)).ending
            assert b"one\ntwo\n" == await server.output(old)
            assert [] == [name for name in machine.generations() if name == OLDER]

    os.mkfifo(machine.home.parent / "gate")
    asyncio.run(upgrade(machine.home.parent / "gate"))


@keeps_exit_codes
def test_an_exit_code_from_between_two_supervisors(machine: Machine) -> None:
    """What ends between two supervisors has its true exit code: the server holds a pidfd."""

    def open_gate() -> None:
        (machine.home.parent / "gate").write_text("")

    async def end_unseen(gate: Path) -> None:
        async with machine.server() as server:
            job = await server.start("sh", "-c", f"echo out; cat {gate}; exit 9")
            # From here to the end nothing awaits: the server cannot start another supervisor meanwhile.
            kill(*machine.generations().values())
            pidfd = os.pidfd_open(server.found[job].pid)
            open_gate()
            await_pidfd(pidfd)
            machine.until(lambda: not Path(f"/proc/{server.found[job].pid}").exists())
            assert Exited(9) == (await server.end(job)).ending
            assert b"out\n" == await server.output(job)

    os.mkfifo(machine.home.parent / "gate")
    asyncio.run(end_unseen(machine.home.parent / "gate"))


def test_nobody_knows_without_a_pidfd(machine: Machine) -> None:
    """What ends while neither server nor supervisor lives is LOST, and says why; no code is invented."""

    async def start() -> tuple[JobId, int]:
        async with machine.server() as server:
            job = await server.start("sleep", "1000")
            return job, server.found[job].pid

    async def find(job: JobId) -> None:
        async with machine.server() as server:
            ending = (await server.end(job)).ending
            assert isinstance(ending, Lost)
            assert "while its supervisor was dead" in ending.reason

    job, pid = asyncio.run(start())
    pidfd = os.pidfd_open(pid)
    kill(*machine.generations().values())
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    await_pidfd(pidfd)
    machine.until(lambda: not Path(f"/proc/{pid}").exists())
    asyncio.run(find(job))


def test_a_job_that_cannot_be_taken_over_costs_itself_alone(machine: Machine) -> None:
    """It is ended and LOST with the reason, and the others go on."""

    async def start() -> tuple[JobId, int, JobId]:
        async with machine.server() as server:
            spoiled, other = await server.start("sleep", "1000"), await server.start("sleep", "1000")
            return spoiled, server.found[spoiled].pid, other

    async def take_over(spoiled: JobId, other: JobId) -> None:
        async with machine.server() as server:
            ending = (await server.end(spoiled)).ending
            assert isinstance(ending, Lost)
            assert ending.reason.startswith("no supervisor could take it over: ")
            await server.found[other].stop(signal.SIGTERM, 5)
            assert Signaled(signal.SIGTERM) == (await server.end(other)).ending

    spoiled, pid, other = asyncio.run(start())
    kill(*machine.generations().values())
    history = history_path(machine.layout.job(spoiled))
    # Its main process is known to have ended, so its group is looked at: which is no directory.
    text = history.read_text().replace('"unified": null', '"unified": "/dev/null"')
    history.write_text(text + '\n{"main": {"exited": 0}, "oom_kills": 0}')
    pidfd = os.pidfd_open(pid)
    asyncio.run(take_over(spoiled, other))
    await_pidfd(pidfd)


@keeps_exit_codes
def test_a_stop_outlives_the_supervisor(machine: Machine) -> None:
    """A job that was asked to end is killed after its grace by the next supervisor; it was stopped."""

    async def stop() -> None:
        async with machine.server() as server:
            job = await server.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
            async with server.outputs.watch(job) as watch:
                while not await server.output(job):
                    await watch.changed()
            await server.found[job].stop(signal.SIGTERM, 1.0)
            kill(*machine.generations().values())
            end = await server.end(job)
            assert (Signaled(signal.SIGKILL), Cause.STOPPED) == (end.ending, end.cause)

    asyncio.run(stop())


@keeps_exit_codes
def test_a_timeout_outlives_the_supervisor(machine: Machine) -> None:
    """A job is timed out by the next supervisor, also when its time came while there was none."""

    async def time_out() -> None:
        async with machine.server() as server:
            job = await server.start("sleep", "1000", timeout=1.0)
            kill(*machine.generations().values())
            end = await server.end(job)
            assert (Signaled(signal.SIGTERM), Cause.TIMED_OUT) == (end.ending, end.cause)

    asyncio.run(time_out())


def test_a_supervisor_of_the_previous_protocol(machine: Machine) -> None:
    """One of protocol 1, which had no hello and no generations, is listed, stopped and forgotten."""

    async def upgrade(job: JobId) -> None:
        async with machine.server() as server:
            assert {job} == set(server.found)
            assert JobState.RUNNING == server.found[job].progress.state
            await server.found[job].stop(signal.SIGTERM, 5)
            assert Signaled(signal.SIGTERM) == (await server.end(job)).ending
            await asyncio.to_thread(machine.await_supervisors, 1)

    machine.layout.make()
    with supervisor_of_protocol_1(machine.layout) as peer:
        job = asyncio.run(start_by_protocol_1(machine, peer))
        machine.until(lambda: "supervisor" in machine.generations())
    asyncio.run(upgrade(job))


def test_a_server_of_the_previous_protocol(machine: Machine) -> None:
    """A supervisor of this version serves a server that says no hello: spawn, list, stop, forget."""

    async def start() -> None:
        async with machine.server() as server:
            await server.start("sleep", "1000")

    asyncio.run(start())
    (generation,) = machine.generations()
    with connected(machine.layout.generation(generation)) as peer:
        (old,) = ask(peer, {"call": 1, "do": "list"})["jobs"]
        new = asyncio.run(start_by_protocol_1(machine, peer))
        for name in (old["job"], str(new)):
            assert {"call": 2} == ask(
                peer, {"call": 2, "do": "stop", "job": name, "signal": 9, "grace": 0.0}
            )
        machine.until(lambda: all("end" in each for each in ask(peer, {"call": 3, "do": "list"})["jobs"]))
        for name in (old["job"], str(new)):
            assert {"call": 4} == ask(peer, {"call": 4, "do": "forget", "job": name})


@pytest.mark.parametrize(("protocol", "oldest"), [(0, 0), (PROTOCOL + 2, PROTOCOL + 1)])
def test_a_protocol_that_is_not_understood(machine: Machine, protocol: int, oldest: int) -> None:
    """A supervisor that is too old or too new is left alone, and what to do is said."""

    async def recover() -> None:
        async with machine.server():
            pass

    machine.layout.make()
    machine.layout.generation("strange").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(machine.layout.generation("strange"), os.O_RDONLY)
        listener.bind(socket_address(directory, "socket"))
        os.close(directory)
        listener.listen()
        code = (
            "import socket; from worker.linux.messages import encode\n"
            f"peer = socket.socket(fileno={listener.fileno()}).accept()[0]\n"
            "peer.recv(9999)\n"
            f"peer.sendall(encode({{'call': 1, 'protocol': {protocol}, 'oldest': {oldest}}}))\n"
            "peer.recv(1)\n"
        )
        command = [sys.executable, "-c", code]
        match = rf"speaks protocol {protocol}.*use the version"
        with (
            subprocess.Popen(command, pass_fds=[listener.fileno()]),
            pytest.raises(SpawnerUnavailable, match=match),
        ):
            asyncio.run(recover())


# --- protocol 1


@contextmanager
def supervisor_of_protocol_1(layout: Layout) -> Iterator[socket.socket]:
    """Run a supervisor where the first version had its only one, speaking as that did; connect to it."""
    code = (
        "import sys; from worker.linux.supervisor import __main__, service\n"
        "service.PROTOCOL = 1\n"
        "serve = service.Supervisor._serve\n"
        "def refuse(self, connection, message):\n"
        "    new = message['do'] in {'hello', 'hold', 'adopt'}\n"
        "    serve(self, connection, {'call': message['call']} if new else message)\n"
        "service.Supervisor._serve = refuse\n"
        "__main__.main()\n"
    )
    ready_read, ready_write = os.pipe()
    command = [sys.executable, "-c", code, str(layout.state_dir), "", str(ready_write)]
    subprocess.run(command, pass_fds=[ready_write], check=True)
    os.close(ready_write)
    assert os.read(ready_read, 10)
    os.close(ready_read)
    with connected(layout.supervisor) as peer:
        yield peer


@contextmanager
def connected(directory: Path) -> Iterator[socket.socket]:
    """Connect to a supervisor."""
    with socket.socket(socket.AF_UNIX) as peer:
        fd = os.open(directory, os.O_RDONLY)
        peer.connect(socket_address(fd, "socket"))
        os.close(fd)
        yield peer


async def start_by_protocol_1(machine: Machine, peer: socket.socket) -> JobId:
    """Start a job with a message as the first version wrote it."""
    outputs, job = RecorderStore(machine.home), new_job_id()
    await outputs.create(job, [Channel.OUTPUT])
    await outputs.close()
    plan = {
        "argv": ["sleep", "1000"],
        "env": {"PATH": "/usr/bin:/bin", "WORKER_JOB_ID": str(job)},
        "working_directory": "/",
        "uid": None,
        "gid": None,
        "groups": [],
        "placement": {"unified": None, "legacy": [], "oom_events": None},
        "channels": ["output"],
        "segment_size": 67108864,
        "timeout": None,
        "grace": 10.0,
        "leftovers": "kill",
    }
    answer = ask(peer, {"call": 1, "do": "spawn", "job": str(job), "plan": plan})
    assert answer["pid"] > 0, answer
    return job


def ask(peer: socket.socket, message: dict[str, object]) -> dict[str, object]:
    """Send a message and return its answer."""
    peer.sendall(encode(message))
    decoder = Decoder()
    while True:
        for answer in decoder.feed(peer.recv(65536)):
            if answer.get("call") == message["call"]:
                return answer


# --- processes


def parent(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill(*pids: int) -> None:
    """End processes as a crash would, and wait until they are gone."""
    for pid in pids:
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        await_pidfd(pidfd)


def await_pidfd(pidfd: int) -> None:
    """Wait until a process has ended; close its pidfd."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(60_000)
    os.close(pidfd)
    assert ended
