"""A guest: a machine under qemu, controlled through the agent in it."""

import io
import json
import re
import socket
import subprocess
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Self

from .agent import PORT_NAME
from .image import Image

BOOT_TIMEOUT = 180.0
PATIENCE = 120.0
"""Seconds that a command may take: 1 s on the host takes 12 s in a guest."""

PROCESSOR = "Nehalem"
"""Without features that are expensive to emulate: 256-bit vectors, and five levels of page tables."""

KERNEL_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=1 "
    "psi=1 systemd.unified_cgroup_hierarchy=1 audit=0"
)


def _clock_frequency() -> str:
    """Return the frequency of the host's TSC, which is that of the guest.

    The guest's own measurement on a busy host can be far off, and then its clock is too.
    """
    bogomips = re.search(r"^bogomips\s*: ([0-9.]+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"tsc_early_khz={float(bogomips[1]) * 500:.0f}" if bogomips else ""


class Guest:
    """One running machine; use it as a context manager, so that it stops with the test run.

    eth0 is one end of a wire, a pair of stream sockets: ``end`` tells which one. Raises RuntimeError if it
    does not boot.
    """

    def __init__(self, image: Image, directory: Path, wire: Sequence[socket.socket], *, end: int) -> None:
        self._image = image
        self._wire = wire[end].fileno()
        self._address = f"52:54:00:00:00:0{end}"
        self._console = directory / "console.log"
        self._disk = directory / "root.ext4"

    def __enter__(self) -> Self:
        subprocess.run(["cp", "--sparse=always", self._image.root, self._disk], check=True)
        with ExitStack() as boot:
            boot.callback(self._disk.unlink)
            self._switch_on()
            boot.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._switch_off()
        self._disk.unlink()

    def crash(self) -> None:
        """Cut the power after the disk has been synced; return when the guest is up again."""
        self.check("sync")
        self._switch_off()
        self._switch_on()

    def reboot(self) -> None:
        """Shut down cleanly; return when the guest is up again."""
        with suppress(EOFError):  # the agent may exit before it can answer
            self.run(["systemctl", "reboot"])
        self._qemu.wait(BOOT_TIMEOUT)  # -no-reboot makes qemu exit
        self._switch_off()
        self._switch_on()

    def _switch_on(self) -> None:
        ours, agents = socket.socketpair()
        with agents:
            self._qemu = subprocess.Popen(
                [
                    *_qemu_command(self._image, self._disk, self._console, agents.fileno()),
                    *("-netdev", f"socket,id=wire,fd={self._wire}"),
                    *("-device", f"virtio-net-pci,netdev=wire,mac={self._address},romfile="),
                ],
                stdin=subprocess.DEVNULL,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                pass_fds=[agents.fileno(), self._wire],
                # Ctrl-C in the terminal is for pytest, which then stops the guest cleanly.
                start_new_session=True,
            )
        self._socket = ours
        self._port = ours.makefile("rb")
        with ExitStack() as boot:
            boot.callback(self._switch_off)
            try:
                self.run(["systemctl", "is-system-running", "--wait"], timeout=BOOT_TIMEOUT)
            except (OSError, EOFError) as error:
                console = self._console.read_text(errors="replace") if self._console.exists() else ""
                raise RuntimeError(f"the guest does not boot; its console:\n{console[-2000:]}") from error
            boot.pop_all()

    def _switch_off(self) -> None:
        self._port.close()
        self._socket.close()
        self._qemu.kill()
        self._qemu.wait()

    def run(
        self, command: Sequence[str], *, data: bytes = b"", timeout: float = PATIENCE, **more: object
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command as root and return its result; its status is 124 after the timeout.

        One command at a time. The agent documents `call` and `first_line`.
        """
        request = {"command": list(command), "timeout": timeout, "input": len(data), **more}
        # The agent enforces the timeout; if it does not answer, the guest itself is stuck.
        self._socket.settimeout(timeout + 60)
        self._socket.sendall(json.dumps(request).encode() + b"\n" + data)
        header = json.loads(self._read_line())
        out, err = _read_exactly(self._port, header["stdout"]), _read_exactly(self._port, header["stderr"])
        return subprocess.CompletedProcess(command, header["status"], out, err)

    def check(self, *command: str, timeout: float = PATIENCE) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.run(command, timeout=timeout)
        assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def push(self, source: Path, target: str) -> None:
        """Copy a file, or the content of a directory, into a directory of the guest."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(source, arcname="." if source.is_dir() else source.name, filter=_as_root)
        self.check("mkdir", "-p", target)
        done = self.run(["tar", "-xf", "-", "-C", target], data=archive.getvalue())
        assert done.returncode == 0, done.stderr

    def _read_line(self) -> bytes:
        line = self._port.readline()
        if not line.endswith(b"\n"):
            raise EOFError(f"the guest has exited: status of qemu {self._qemu.poll()}")
        return line


def _read_exactly(port: BinaryIO, size: int) -> bytes:
    data = port.read(size)
    if len(data) < size:
        raise EOFError("the guest has exited in the middle of an answer")
    return data


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Change the owner to root."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _qemu_command(image: Image, disk: Path, console: Path, agent: int) -> list[str]:
    """Return the command line; qemu is killed when this process exits (PR_SET_PDEATHSIG)."""
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-M", "q35,usb=off,sata=off,smbus=off", "-accel", "tcg,thread=multi", "-cpu", PROCESSOR),
        *("-smp", "2", "-m", "1024"),
        *(
            "-kernel",
            str(image.kernel),
            "-initrd",
            str(image.initrd),
            "-append",
            f"{KERNEL_COMMAND_LINE} {_clock_frequency()}",
        ),
        *("-serial", f"file:{console}"),
        *("-drive", f"file={disk},format=raw,if=none,id=root,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=root,romfile="),
        *("-chardev", f"socket,id=agent,fd={agent}", "-device", "virtio-serial-pci"),
        *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
    ]
