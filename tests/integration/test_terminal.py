"""The terminal of a job: its size, its keys, its output, and what happens when our processes die."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from worker import JobId
from worker.core.engine.capabilities import resizable
from worker.core.model.ending import Cause, Channel, Exited, Signaled
from worker.core.model.terminal import WindowSize
from worker.core.ports import InteractiveProcess
from worker.core.steps import Step
from worker.linux.crash_points import VARIABLE

from ..support.generations import Machine, Server
from ..support.waiting import awaited

SIZE = WindowSize(31, 97)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")


class Typist:
    """Types keys into the terminal of a job."""

    def __init__(self, server: Server, job: JobId) -> None:
        self._server = server
        self._job = job

    async def type(self, keys: bytes) -> None:
        """Type these keys after those before."""
        stdin = self._server.input_of(self._job)
        await stdin.write_input((await stdin.input()).accepted, keys)

    async def see(self, text: bytes) -> bytes:
        """Wait until the screen has shown a text, and return all that it has shown."""
        await awaited(lambda: self._shows(text))
        return await self._server.output(self._job)

    async def _shows(self, text: bytes) -> bool:
        return text in await self._server.output(self._job)


async def on_terminal(server: Server, *command: str, user: str | None = None) -> JobId:
    """Start a job with a terminal and an open stdin."""
    return await server.start(*command, stdin=True, terminal=SIZE, user=user)


async def test_the_terminal_is_the_controlling_one_and_has_its_size(machine: Machine) -> None:
    """The size is set before the exec; stdin, stdout and stderr are the terminal, and /dev/tty opens it."""
    script = "stty size; echo to-tty > /dev/tty; for n in 0 1 2; do readlink /proc/$$/fd/$n; done; tty"
    async with machine.server() as server:
        job = await on_terminal(server, "sh", "-c", script)
        assert Exited(0) == (await server.end(job)).ending
        size, to_tty, *names = (await server.output(job)).split(b"\r\n")
        assert (b"31 97", b"to-tty") == (size, to_tty)
        assert len(set(names[:4])) == 1
        assert re.fullmatch(rb"/dev/pts/\d+", names[0])


@AS_ROOT
async def test_the_terminal_belongs_to_the_user_of_the_job(machine: Machine) -> None:
    """Mode 0620, as login(1) sets it."""
    async with machine.server() as server:
        job = await on_terminal(server, "sh", "-c", 'stat -c "%U %a" "$(tty)"', user="nobody")
        await server.end(job)
        assert b"nobody 620" == (await server.output(job)).strip()


async def test_a_change_of_the_size_is_signalled(machine: Machine) -> None:
    """The job gets SIGWINCH, and then reads the new size."""
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    async with machine.server() as server:
        job = await on_terminal(server, "bash", "-c", script)
        typist = Typist(server, job)
        await typist.see(b"ready")
        await resizable(server.found[job]).resize(WindowSize(50, 132))
        await typist.see(b"50 132")
        await server.found[job].stop(signal.SIGKILL, 0.0)
        await server.end(job)


async def test_keys_are_echoed_and_read(machine: Machine) -> None:
    """The terminal echoes keys, edits lines, and hides what is typed after `read -s`."""
    script = 'read line; echo "got $line"; read -s secret; echo "secret has ${#secret}"'
    async with machine.server() as server:
        job = await on_terminal(server, "bash", "-c", script)
        typist = Typist(server, job)
        await typist.type(b"wrong\x15right\r")  # Ctrl-U erases the line
        await typist.see(b"got right")
        await typist.type(b"hidden\r")
        shown = await typist.see(b"secret has 6")
        assert b"hidden" not in shown
        assert Exited(0) == (await server.end(job)).ending


async def test_ctrl_c_is_for_the_job(machine: Machine) -> None:
    """The terminal sends SIGINT to the foreground process; its shell goes on."""
    async with machine.server() as server:
        job = await on_terminal(server, "bash", "--norc", "-i")
        typist = Typist(server, job)
        await typist.type(b"echo wait; sleep 1000\r")
        await typist.see(b"\r\nwait\r\n")
        await typist.type(b"\x03")
        await typist.type(b"echo status $?\r")
        await typist.see(b"\r\nstatus 130\r\n")
        await typist.type(b"\x04")  # Ctrl-D: the end of the input
        end = await server.end(job)
        assert (Exited(0), Cause.NONE) == (end.ending, end.cause)


async def test_leftovers_lose_the_terminal(machine: Machine) -> None:
    """When the main process ends, the kernel hangs up, and leftovers have no linger."""
    async with machine.server() as server:
        job = await on_terminal(server, "sh", "-c", "sleep 1000 & echo started")
        assert Exited(0) == (await server.end(job)).ending
        assert b"started\r\n" == await server.output(job)


@pytest.mark.parametrize("victims", ["recorder", "zygote recorder", "supervisor"])
async def test_output_is_exact_whichever_process_dies(machine: Machine, victims: str) -> None:
    """No byte that the job writes to its terminal is lost or repeated."""
    script = "stty raw; exec seq 3000000"
    expected = b"".join(b"%d\n" % number for number in range(1, 3_000_001))
    async with machine.server() as server:
        job = await on_terminal(server, "sh", "-c", script)
        for _ in range(8):
            await asyncio.sleep(0.05)  # the moment of the kill
            await asyncio.to_thread(machine.kill, victims)
        assert Exited(0) == (await server.end(job)).ending
        assert expected == await all_output(server, job)


async def all_output(server: Server, job: JobId) -> bytes:
    """Return the whole output of a job."""
    output = b""
    while piece := await server.outputs.read(job, Channel.OUTPUT, len(output), 1 << 20):
        output += piece
    return output


@pytest.mark.parametrize("victims", ["recorder", "zygote", "supervisor", "supervisor recorder"])
async def test_a_session_survives_the_death_of_our_processes(machine: Machine, victims: str) -> None:
    """The terminal stays open: keys and output go on, and the size can be changed."""
    async with machine.server() as server:
        job = await on_terminal(server, "bash", "--norc", "-i")
        typist = Typist(server, job)
        await typist.type(b"echo be''fore\r")
        await typist.see(b"before\r\n")
        await asyncio.to_thread(machine.kill, victims)
        await typist.type(b"echo af''ter\r")
        await typist.see(b"after\r\n")
        await resizable(server.found[job]).resize(WindowSize(40, 100))
        await typist.type(b"stty size\r")
        await typist.see(b"\r\n40 100\r\n")
        await typist.type(b"exit 3\r")
        assert Exited(3) == (await server.end(job)).ending


async def test_the_next_server_continues_a_session(machine: Machine) -> None:
    """The terminal belongs to the supervisor: it outlives the server."""
    async with machine.server() as server:
        job = await on_terminal(server, "bash", "--norc", "-i")
        await Typist(server, job).type(b"name=kept\r")
    async with machine.server() as server:
        typist = Typist(server, job)
        await typist.type(b"echo $name\r")
        await typist.see(b"\r\nkept\r\n")
        await typist.type(b"exit\r")
        assert Exited(0) == (await server.end(job)).ending


@pytest.mark.parametrize("step", [Step.TYPING, Step.RELAYED])
async def test_a_recorder_that_dies_between_two_steps(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    """Keys that were about to be typed are not typed twice; what was relayed is not repeated."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    crash_point = tmp_path / f"recorder.{step}"
    async with machine.server() as server:
        job = await server.start("sh", "-c", "stty -echo; cat", stdin=True, terminal=SIZE)
        typist = Typist(server, job)
        await typist.type(b"ready\r")
        await typist.see(b"ready\r\n")
        crash_point.touch()
        await typist.type(b"once\r")
        await asyncio.to_thread(machine.until, lambda: not crash_point.exists())
        await typist.type(b"last\r\x04")
        assert Exited(0) == (await server.end(job)).ending
        lines = (await server.output(job)).split(b"\r\n")
        assert lines.count(b"once") == (0 if step is Step.TYPING else 1)
        assert lines.count(b"last") == 1


def kill_all_holders(machine: Machine) -> None:
    """Kill supervisor, zygote and recorder together."""
    machine.until(lambda: machine.helper("recorder") > 0)
    pids = [machine.helper("zygote"), machine.helper("recorder"), *machine.generations().values()]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)


async def test_a_job_that_outlives_its_terminal(machine: Machine) -> None:
    """Its input is closed, with the reason, and a change of the size is no error."""
    script = "trap '' HUP; echo ready; while :; do sleep 0.1; done"
    async with machine.server() as server:
        job = await on_terminal(server, "sh", "-c", script)
        await Typist(server, job).see(b"ready")
        await asyncio.to_thread(kill_all_holders, machine)
        await asyncio.to_thread(machine.await_supervisors, 1)
        await resizable(server.found[job]).resize(WindowSize(40, 100))
        stdin = server.input_of(job)
        await awaited(lambda: closed(stdin))
        assert "the terminal was hung up" in (await stdin.input()).closed
        await server.found[job].stop(signal.SIGKILL, 0.0)
        await server.end(job)


async def closed(stdin: InteractiveProcess) -> bool:
    """Whether a job reads no more input."""
    return bool((await stdin.input()).closed)


async def test_a_lost_terminal_hangs_up(machine: Machine) -> None:
    """If supervisor, zygote and recorder die together, the job gets SIGHUP from the kernel."""
    async with machine.server() as server:
        job = await on_terminal(server, "sleep", "1000")
        await asyncio.to_thread(kill_all_holders, machine)
        end = await server.end(job)
        assert Signaled(signal.SIGHUP) == end.ending
