"""Types the commands of a page into a shell, and compares what they print with the page.

What differs from run to run is compared by its form: ids, pids, ports, paths in /tmp and /home, tokens of
invitations, times and spans of time. A line ``...`` stands for any lines, and ``...`` at the end of a line
for the rest of it. An id of the page stands for the id that took its place in the output; an id that no
output has shown, and JOB, for the last job. ``/var/lib/worker``, the default of root, stands for
WORKER_HOME.
"""

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from .pages import Block, Step, steps
from .waiting import PATIENCE

_DEFAULT_HOME = "/var/lib/worker"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_STARTED = re.compile(rf"Job ({_UUID}) is started")

# Each command is read up to a NUL, and evaluated in this shell, so that cd, variables and functions stay.
_LOOP = r"""
while IFS= read -r -d '' command; do
  eval "$command" </dev/null 2>&1
  printf '\0%d\0' "$?"
done
"""

_FORMS = re.compile(
    rf"(?P<id>{_UUID})"
    r"|(?P<token>wj1_\S+)"
    r"|(?P<any>\.\.\.$)"
    r"|(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?)"
    r"|(?P<pid>(?<=Pid: )\d+|(?<=[Pp]rocess )\d+|(?<=[Pp]id )\d+)"
    r"|(?P<port>(?<=127\.0\.0\.1:)\d+)"
    r"|(?P<path>/(?:tmp|home)/[\w./-]+)"
    r"|(?P<span>\b\d+(?:\.\d+)?(?= ?(?:ms|s|min|h|d)\b))",
    re.MULTILINE,
)
_PATTERNS = {
    "token": r"wj1_\S+",
    "any": r".*",
    "time": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?",
    "pid": r"\d+",
    "port": r"\d+",
    "path": r"/[\w./-]+",
    "span": r"\d+(?:\.\d+)?",
}


class Ids:
    """Which id takes the place of each id of the page."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        self._last = ""

    def command(self, command: str) -> str:
        """Return a command of the page with real ids."""
        real = re.sub(_UUID, lambda found: self._real.get(found[0]) or self._last or found[0], command)
        return re.sub(r"\bJOB\b", self._last, real) if self._last else real

    def match(self, shown: str, printed: str, home: str) -> bool:
        """Whether a page shows what was printed; keeps the ids."""
        pattern, ids = self._pattern(shown.replace(_DEFAULT_HOME, home))
        found = re.fullmatch(pattern, printed)
        if found is not None:
            self._real |= {page: found[group] for page, group in ids.items()}
        return found is not None

    def started(self, printed: str) -> None:
        """Keep the id of the last job that was started."""
        if found := _STARTED.findall(printed):
            self._last = found[-1]

    def _pattern(self, shown: str) -> tuple[str, Mapping[str, str]]:
        ids: dict[str, str] = {}
        lines = [self._line(line, ids) for line in shown.splitlines()]
        return "".join(lines), ids

    def _line(self, line: str, ids: dict[str, str]) -> str:
        if line == "...":
            return r"(?:.*\n)*?"
        pattern, end = "", 0
        for found in _FORMS.finditer(line):
            pattern += re.escape(line[end : found.start()])
            end = found.end()
            if found["id"] is None:
                pattern += _PATTERNS[str(found.lastgroup)]
            elif real := self._real.get(found["id"]):
                pattern += real
            elif group := ids.get(found["id"]):
                pattern += f"(?P={group})"
            else:
                ids[found["id"]] = f"id{len(ids)}"
                pattern += f"(?P<{ids[found['id']]}>{_UUID})"
        return f"{pattern}{re.escape(line[end:])}\\n"


class PageSession:
    """A shell with a WORKER_HOME in which the blocks of one page are run; use it as a context manager."""

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        self._home = env["WORKER_HOME"]
        self._directory = directory
        self._ids = Ids()
        self._shell = subprocess.Popen(
            ["bash", "--norc", "-c", _LOOP],
            env={**env, "PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "HOME": str(directory)},
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.stdout.close()
        self._shell.wait()

    def run(self, block: Block) -> None:
        """Run a block after what its comment prepares; assert that it does what the page shows."""
        for command in block.setup.splitlines():
            status, printed = self._type(command)
            assert 0 == status, f"setup of line {block.line}: {command}\n{printed}"
        if block.needs and self._type(block.needs)[0]:
            pytest.skip(f"{block.needs} fails here")
        if block.excuse is not None:
            return
        if block.file:
            file = self._directory / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code)
        elif block.kind == "python":
            self._run_program(block)
        elif block.kind == "console":
            for step in steps(block.code):
                self._run_step(step, block.line)

    def _run_step(self, step: Step, line: int) -> None:
        """A command that fails has to print what the page shows; others may print something too."""
        status, printed = self._type(step.command)
        where = (
            f"line {line}: $ {step.command}\n(status {status})\n{printed}\nthe page shows:\n{step.shown}"
        )
        assert status == 0 or step.shown, where
        assert self._ids.match(step.shown, printed, self._home), where

    def _run_program(self, block: Block) -> None:
        (self._directory / "program.py").write_text(block.code)
        status, printed = self._type("python -W error program.py 2>&1 >/dev/null")
        assert (0, "") == (status, printed), f"line {block.line}: {printed}"

    def _type(self, command: str) -> tuple[int, str]:
        """Evaluate a command of the page; return its exit status and what it has printed."""
        assert self._shell.stdin is not None
        real = self._ids.command(command).replace(_DEFAULT_HOME, self._home)
        self._shell.stdin.write(real.encode() + b"\0")
        self._shell.stdin.flush()
        printed, status = self._read_answer(command)
        self._ids.started(printed)
        return status, printed

    def _read_answer(self, command: str) -> tuple[str, int]:
        assert self._shell.stdout is not None
        answer, deadline = b"", time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self._shell.stdout, selectors.EVENT_READ)
            while answer.count(b"\0") < 2:
                ready = selector.select(deadline - time.monotonic())
                data = os.read(self._shell.stdout.fileno(), 1 << 16) if ready else b""
                if not data:
                    self._shell.kill()
                    raise AssertionError(f"$ {command}\ndoes not end; it has printed: {answer.decode()}")
                answer += data
        printed, status, _ = answer.decode().split("\0")
        return printed, int(status)
