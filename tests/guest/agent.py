#!/usr/bin/python3
"""Runs in the guest: executes what the host asks for over virtio-serial, one command at a time.

Request: a line of JSON {"command": [...], "timeout": seconds, "input": size}, then the bytes of stdin.
Answer: a line of JSON {"status": ..., "stdout": size, "stderr": size}, then both outputs.
The status is the exit code, negative after a signal, 124 after the timeout and 127 without a program.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

PORT_NAME = "worker.agent"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def port_device() -> Path:
    """Return the device of our port; there is no udev in the guest that would name it."""
    for port in Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").read_text().strip() == PORT_NAME:
            return Path("/dev", port.name)
    raise FileNotFoundError(f"there is no virtio port {PORT_NAME}")


def execute(command: list[str], data: bytes, timeout: float) -> tuple[int, bytes, bytes]:
    """Run a command in a session of its own, and end all of that session after the timeout."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return 127, b"", str(error).encode()
    try:
        out, err = process.communicate(data, timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return 124, out, err
    return process.returncode, out, err


def read_exactly(port: BinaryIO, size: int) -> bytes:
    """Return the next bytes from the host."""
    data = bytearray()
    while len(data) < size:
        data += port.read(size - len(data))
    return bytes(data)


def write_all(port: BinaryIO, data: bytes) -> None:
    """Send all to the host."""
    rest = memoryview(data)
    while rest:
        rest = rest[port.write(rest) :]


def read_line(port: BinaryIO) -> bytes:
    """Return the next line; wait for the host where it has not connected yet."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = port.read(1)
        if not byte:
            time.sleep(0.05)  # what a port without a host reads is empty, and poll tells no change
        line += byte
    return bytes(line)


def main() -> None:
    """Serve for as long as the guest runs."""
    with port_device().open("r+b", buffering=0) as port:
        while True:
            request = json.loads(read_line(port))
            data = read_exactly(port, request["input"])
            status, out, err = execute(request["command"], data, request["timeout"])
            header = {"status": status, "stdout": len(out), "stderr": len(err)}
            write_all(port, json.dumps(header).encode() + b"\n" + out + err)


if __name__ == "__main__":
    main()
