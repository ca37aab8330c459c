"""Sessions that are left and continued: detach, attach, lost connections, and commands that are killed."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from subprocess import PIPE

import pytest

from ..support.installation import Installation
from ..support.local_pty import COLUMNS, ROWS, LocalPty, in_terminal, on_terminal
from ..support.waiting import wait_until

BASH = ("bash", "--norc", "--noprofile")
DETACH = b"\x10\x11"
RETURNS = re.compile(rb"\r\n(?:.*\r\n)?worker: detached; worker attach -i (\S+) returns\r\n$")


def job_of(installation: Installation, name: str) -> str:
    """Return the id of the only job with this label."""
    return installation.worker("list", "--label", f"test={name}").splitlines()[1].split()[0]


def detached(local: LocalPty) -> str:
    """Type the detach keys, check how the command ends, and return the job."""
    local.type(DETACH)
    assert 0 == local.wait()
    message = RETURNS.search(local.shown)
    assert message, local.shown
    assert local.restored
    return message[1].decode()


def started(installation: Installation, *command: str) -> str:
    """Start a job with a terminal, and return its id."""
    return installation.start("-it", "--env", "PS1=ready$ ", *command)


def test_detach_and_attach(shared: Installation) -> None:
    """The job keeps running; another terminal continues it, with a screen that is drawn again."""
    with on_terminal(shared, "run", "-it", "--env", "PS1=ready$ ", *BASH) as local:
        local.see(b"ready$ ")
        local.type(b"name=kept")
        local.see(b"name=kept")
        job = detached(local)
    assert "running" == shared.query(job)["state"]
    for _ in range(2):  # of the same size: nothing but the redraw shows what was typed before
        with on_terminal(shared, "attach", "-i", job) as local:
            local.see(b"ready$ name=kept")
            assert job == detached(local)
    with on_terminal(shared, "attach", "-i", job) as local:
        local.see(b"name=kept")
        local.type(b"\recho $name; stty size\r")
        local.see(b"kept\r\n")
        local.see(f"{ROWS} {COLUMNS}\r\n".encode())
        local.type(b"exit 3\r")
        assert 0 == local.wait()
        assert local.restored
    assert 3 == shared.query(job)["exit_code"]


@pytest.mark.parametrize("way", ["option", "variable"])
def test_other_detach_keys(shared: Installation, way: str) -> None:
    """The keys are chosen by an option or a variable; a part of the sequence is for the job."""
    keys = "~,ctrl-],d"
    options = ["--detach-keys", keys] if way == "option" else []
    env = {"WORKER_DETACH_KEYS": keys} if way == "variable" else {}
    script = "stty raw -echo; printf ready; cat -v"
    with on_terminal(shared, "run", "-it", *options, "sh", "-c", script, **env) as local:
        local.see(b"ready")
        local.type(DETACH + b"~~\x1d~x")
        local.see(b"^P^Q~~^]~x")
        for key in (b"~", b"\x1d", b"d"):
            local.type(key)
        assert 0 == local.wait()
        message = RETURNS.search(local.shown)
    assert message
    shared.worker("stop", message[1].decode())


def test_invalid_detach_keys(shared: Installation) -> None:
    """The error names the key, and no job is started."""
    done = shared.run("run", "-it", "--detach-keys", "ctrl-p,ctrl-1", "true")
    assert 125 == done.returncode
    assert b"--detach-keys ctrl-p,ctrl-1: unknown key 'ctrl-1'; write" in done.stderr


def test_keys_before_the_detach_keys_are_typed(shared: Installation) -> None:
    """What was typed before in the same moment reaches the job."""
    job = started(shared, *BASH)
    with on_terminal(shared, "attach", "-i", job) as local:
        local.see(b"ready$ ")
        local.type(b"exit 9\r" + DETACH)
        assert 0 == local.wait()
    assert 9 == shared.wait(job)["exit_code"]


def test_a_watcher(shared: Installation) -> None:
    """Without -i the screen is shown, no key and no size is passed on, and Ctrl-C ends the watching."""
    job = started(shared, *BASH)
    with on_terminal(shared, "attach", job) as watcher, on_terminal(shared, "attach", "-i", job) as local:
        while b"tick" not in watcher.shown:  # it may attach later
            local.type(b"echo ti''ck\r")
            local.poll()
            watcher.poll()
        local.resize(40, 100)
        local.type(b"echo re''sized\r")
        watcher.see(b"resized\r")
        watcher.resize(10, 20)
        watcher.type(b"\x03")
        assert 130 == watcher.wait()
        local.type(b"stty size; exit\r")
        local.see(b"40 100\r\n")
        assert 0 == local.wait()


def test_one_writer(shared: Installation) -> None:
    """A second terminal is refused, and is as it was before."""
    job = started(shared, *BASH)
    with on_terminal(shared, "attach", "-i", job) as local:
        local.see(b"ready$ ")
        with on_terminal(shared, "attach", "-i", job) as second:
            assert 1 == second.wait()
            assert b"another client writes to the stdin of job" in second.shown
            assert second.restored
        local.type(b"exit\r")
        assert 0 == local.wait()


def test_a_pipe_types(shared: Installation) -> None:
    """`attach -i` with a pipe types what is in it; its end is no end of the input."""
    job = started(shared, *BASH)
    command = [*shared.command, "attach", "-i", job]
    with subprocess.Popen(command, env=shared.env, stdin=PIPE, stdout=PIPE) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(b"name=kept\recho $name''.\r")
        first.stdin.close()
        while b"kept.\r\n" not in first.stdout.readline():
            pass
        first.send_signal(signal.SIGINT)
    second = subprocess.run(command, env=shared.env, input=b"exit ${#name}\r", stdout=PIPE, check=False)
    assert 0 == second.returncode
    assert 4 == shared.wait(job)["exit_code"]


# --- commands that are ended


def test_the_command_is_killed(shared: Installation) -> None:
    """The job keeps running, and another command attaches."""
    with on_terminal(
        shared, "run", "-it", "--label", "test=killed", "--env", "PS1=ready$ ", *BASH
    ) as local:
        local.see(b"ready$ ")
        local.process.kill()
        local.wait()
        assert local.is_raw  # nothing can restore it
    job = job_of(shared, "killed")
    with on_terminal(shared, "attach", "-i", job) as local:
        local.see(b"ready$ ")
        local.type(b"exit 4\r")
        assert 0 == local.wait()
    assert 4 == shared.query(job)["exit_code"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_run(shared: Installation, number: signal.Signals) -> None:
    """It stops the job, as without a terminal, and the terminal is restored."""
    name = number.name.lower()
    with on_terminal(
        shared, "run", "-it", "--label", f"test={name}", "sh", "-c", "echo begun; cat"
    ) as local:
        local.see(b"begun")
        local.process.send_signal(number)
        assert 128 + number == local.wait()
        assert local.restored
    assert "stopped" == shared.query(job_of(shared, name))["cause"]


def test_three_signals_to_run(shared: Installation) -> None:
    """The third one ends the command although the job cannot be stopped; the terminal is restored."""
    with on_terminal(shared, "run", "-it", "--label", "test=three", "sh", "-c", "echo begun; cat") as local:
        local.see(b"begun")
        pid = shared.server_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            while local.process.poll() is None:
                local.process.send_signal(signal.SIGTERM)
                local.poll()
            assert -signal.SIGTERM == local.process.returncode
            assert local.restored
        finally:
            os.kill(pid, signal.SIGCONT)
    shared.wait(job_of(shared, "three"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_to_attach(shared: Installation, number: signal.Signals) -> None:
    """It ends only the command, and the terminal is restored."""
    job = started(shared, "sh", "-c", "stty -echo; cat")
    with on_terminal(shared, "attach", "-i", job) as local:
        wait_until(lambda: local.is_raw)
        local.type(b"hello\r")
        local.see(b"hello")
        local.process.send_signal(number)
        status = local.wait()
        assert (130 if number == signal.SIGINT else -number) == status, local.shown
        assert local.restored
    assert "running" == shared.query(job)["state"]
    shared.worker("stop", job)


def test_a_terminal_that_is_closed(shared: Installation) -> None:
    """The hang-up ends an attached command and not the job, whose input stays open."""
    job = started(shared, *BASH)
    with on_terminal(shared, "attach", "-i", job) as local:
        local.see(b"ready$ ")
        local.hang_up()
        local.process.wait()
    with on_terminal(shared, "attach", "-i", job) as local:
        local.see(b"ready$ ")
        local.type(b"exit 6\r")
        assert 0 == local.wait()
    assert 6 == shared.query(job)["exit_code"]


def test_ctrl_c_during_the_start(shared: Installation) -> None:
    """Before the job is started the terminal is not raw, and Ctrl-C is a signal, as without a terminal."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with on_terminal(shared, "run", "-it", "--server", address, "cat") as local:
            connection, _ = server.accept()
            while local.process.poll() is None:  # the first two would stop and kill the job
                local.type(b"\x03")
                local.poll()
            connection.close()
            # By the signal itself, if there is another Ctrl-C while the interpreter ends.
            assert local.wait() in {130, -signal.SIGINT}
            assert local.restored


def test_a_stopped_command(shared: Installation) -> None:
    """When it continues, it enters raw mode again, and sends the size at present."""
    job = started(shared, *BASH)
    with on_terminal(shared, "attach", "-i", job) as local:
        local.see(b"ready$ ")
        local.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: "T" == state(local.process.pid))
        local.leave_raw()  # as a shell does
        local.resize(44, 111)
        local.process.send_signal(signal.SIGCONT)
        wait_until(lambda: local.is_raw)
        local.type(b"stty size; exit\r")
        local.see(b"44 111\r\n")
        assert 0 == local.wait()


def test_in_the_background(shared: Installation) -> None:
    """The kernel stops the command before it changes the terminal; `fg` continues it."""
    line = f"{' '.join(shared.command)} run -it sh -c 'echo beg''un; read x; echo got $x'"
    env = {**shared.env, "PS1": "local$ "}
    with in_terminal([*BASH, "-i"], env) as local:
        local.see(b"local$ ")
        local.type(f"{line} & pid=$!\r".encode())
        local.type(b"until [ T = $(cut -d' ' -f3 /proc/$pid/stat) ]; do sleep 0.1; done; echo stop''ped\r")
        local.see(b"stopped\r\n")
        local.type(b"fg\r")
        local.see(b"begun\r\n")
        local.type(b"hello\r")
        local.see(b"got hello\r\n")
        local.see(b"local$ ")
        local.type(b"exit\r")
        local.wait()


# --- lost connections


def test_keys_while_the_server_is_away(installation: Installation) -> None:
    """The message has lines of its own, and what was typed meanwhile is typed once."""
    with on_terminal(installation, "run", "-it", "--env", "PS1=ready$ ", *BASH) as local:
        local.see(b"ready$ ")
        installation.kill(installation.server_pid())
        local.see(b"\r\nworker: ")
        local.see(b"trying again for 60 s\r\n")
        for key in b"echo on''ce\r":
            local.type(bytes([key]))
        local.resize(40, 100)
        installation.worker("up")
        local.see(b"\r\nworker: the server is back\r\n")
        local.see(b"once\r\n")
        local.type(b"stty size; exit 3\r")
        local.see(b"40 100\r\n")
        assert 3 == local.wait()
        assert 1 == local.shown.count(b"once\r\n")
        assert local.restored


def test_detach_while_the_server_is_away(installation: Installation) -> None:
    """The detach keys work at any time; Ctrl-C is for the job."""
    with on_terminal(installation, "run", "-it", "sh", "-c", "echo begun; cat") as local:
        local.see(b"begun")
        installation.kill(installation.server_pid())
        local.see(b"trying again")
        local.type(b"\x03")
        detached(local)
    installation.worker("up")


def state(pid: int) -> str:
    """Return the state of a process, as in proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
