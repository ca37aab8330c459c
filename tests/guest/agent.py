#!/usr/bin/python3
"""Runs in the guest: executes the commands of the host over virtio-serial, one at a time.

Request: a line of JSON {"command": [...], "timeout": seconds, "input": size}, then the bytes of stdin.
With "call": {"module": ..., "preload": [...], "user": ..., "environment": {...}} the command is not
executed: a fork of the agent, as that user, calls main() of the module, which the agent has already
imported. Starting Python and importing takes seconds in a guest.
With "first_line": true the answer is the first line of the command's output; the command is then killed.
Answer: a line of JSON {"status": ..., "stdout": size, "stderr": size}, then both outputs.
The status is the exit code, negative after a signal, 124 after the timeout and 127 without a program.
"""

import contextlib
import json
import os
import pwd
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

PORT_NAME = "worker.agent"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def port_device() -> Path:
    """Return the device of the port; the guest has no udev that would name it."""
    for port in Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").read_text().strip() == PORT_NAME:
            return Path("/dev", port.name)
    raise FileNotFoundError(f"no virtio port is named {PORT_NAME}")


def spawn(
    command: list[str], user: str | None = None, call: Callable[[], None] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command in its own session; or, instead of it, a call that never returns."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=user and os.getgrouplist(user, pwd.getpwnam(user).pw_gid),
        preexec_fn=call,  # noqa: PLW1509 - there is only one thread
        restore_signals=call is None,  # an executed Python sets its own signals; a fork has them already
    )


def spawn_call(
    command: list[str], module: str, preload: list[str], user: str, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a fork of the agent that acts as the command."""
    for name in (module, *preload):
        import_module(name)
    return spawn(command, user, partial(be_command, command, module, environment))


def be_command(command: list[str], module: str, environment: dict[str, str]) -> NoReturn:
    """Act as an executed Python, and exit."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # also notifies Popen() that the command runs
    os.environ.clear()
    os.environ.update(ENVIRONMENT, **environment)
    sys.argv = command
    status: object = 1
    try:
        sys.modules[module].main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(status if isinstance(status, int) else 1)


def execute(request: dict[str, Any], data: bytes) -> tuple[int, bytes, bytes]:
    """Run the requested command, and kill its whole session after the timeout."""
    command, timeout = request["command"], request["timeout"]
    try:
        process = spawn_call(command, **request["call"]) if "call" in request else spawn(command)
    except OSError as error:
        return 127, b"", str(error).encode()
    try:
        if request.get("first_line"):
            return first_line(process, timeout)
        out, err = process.communicate(data, timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return 124, out, err
    return process.returncode, out, err


def first_line(process: "subprocess.Popen[bytes]", timeout: float) -> tuple[int, bytes, bytes]:
    """Return the first line that a process writes, and kill it."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout)
    line = process.stdout.readline() if ready else b""
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=timeout)
    return 0 if line else 124, line, err


def read_exactly(port: BinaryIO, size: int) -> bytes:
    """Return the next bytes from the host."""
    data = bytearray()
    while len(data) < size:
        data += port.read(min(size - len(data), 65536))  # read() allocates this size every time
    return bytes(data)


def write_all(port: BinaryIO, data: bytes) -> None:
    """Send all bytes to the host."""
    rest = memoryview(data)
    while rest:
        rest = rest[port.write(rest) :]


def read_line(port: BinaryIO) -> bytes:
    """Return the next line; wait if the host has not connected yet."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = port.read(1)
        if not byte:
            time.sleep(0.05)  # a port without a host reads as empty, and poll(2) reports no change
        line += byte
    return bytes(line)


def main() -> None:
    """Serve until the guest stops."""
    with port_device().open("r+b", buffering=0) as port:
        while True:
            request = json.loads(read_line(port))
            data = read_exactly(port, request["input"])
            status, out, err = execute(request, data)
            header = {"status": status, "stdout": len(out), "stderr": len(err)}
            write_all(port, json.dumps(header).encode() + b"\n" + out + err)


if __name__ == "__main__":
    main()
