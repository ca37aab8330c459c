"""A job that writes until a gate opens, and a command that follows it."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Writes numbered lines, singly and in bursts, until the gate opens; then writes their hash to a file.
WRITER = """
import hashlib, os, sys, time
number, digest = 0, hashlib.sha256()
while not os.path.exists(sys.argv[1]):
    lines = b"".join(b"%d\\n" % each for each in range(number, number + (1 if number % 7 else 5000)))
    number += lines.count(b"\\n")
    digest.update(lines)
    while lines:
        lines = lines[os.write(1, lines):]
    time.sleep(0.01)
open(sys.argv[2], "w").write(digest.hexdigest())
"""

Until = Callable[[Callable[[], bool]], None]


@contextmanager
def running(command: Sequence[str], env: dict[str, str], stdout: Any) -> Iterator[Any]:
    """Run a command whose stderr can be read; kill it at the end."""
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Followed:
    """A job, and the output of it that `worker stream` has written."""

    def __init__(self, installation: Any, directory: Path, until: Until) -> None:
        self._installation = installation
        self._until = until
        self._gate, self._digest = directory / "gate", directory / "digest"
        self._output = directory / "output"
        program = [sys.executable, "-c", WRITER, str(self._gate), str(self._digest)]
        self._job = installation.start(*program)

    @contextmanager
    def by(self, command: Sequence[str], *options: str) -> Iterator[Any]:
        """Follow the job with a command; wait for some output."""
        stream = [*command, "stream", *options, self._job]
        with self._output.open("wb") as file, running(stream, self._installation.env, file) as process:
            self.await_more()
            yield process

    def await_more(self) -> None:
        """Wait for more output."""
        size = self._output.stat().st_size
        self._until(lambda: self._output.stat().st_size > size)

    def end(self, process: Any) -> list[str]:
        """End the job and the stream; assert that every byte arrived once; return the lines on stderr."""
        self._gate.touch()
        self._installation.worker("wait", self._job)
        errors = process.communicate(timeout=60)[1].decode()
        assert 0 == process.returncode, errors
        assert self._digest.read_text() == hashlib.sha256(self._output.read_bytes()).hexdigest()
        return list(errors.splitlines())
