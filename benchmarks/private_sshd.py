"""An sshd(8) on loopback with keys of its own, to compare with."""

import getpass
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
"""

_CLIENT_OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")


@contextmanager
def private_sshd(directory: Path) -> Iterator[list[str] | None]:
    """Run sshd; yields the words of an ssh command to it, or None if there is no sshd."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        yield None
        return
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(key, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "sshd_config"
    config.write_text(_CONFIG.format(port=port, directory=directory))
    Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation needs it
    with subprocess.Popen(
        [program, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True
    ) as sshd:
        assert sshd.stderr is not None
        while "listening" not in (line := sshd.stderr.readline()):
            assert line, "sshd has not started"
        try:
            options = [f"-o{option}" for option in _CLIENT_OPTIONS]
            key = str(directory / "user")
            yield [
                "ssh",
                "-F",
                "none",
                "-p",
                str(port),
                "-i",
                key,
                *options,
                f"{getpass.getuser()}@127.0.0.1",
            ]
        finally:
            sshd.terminate()
