"""What a job finds in /proc/self is what docs/reference/job-environment.md states, for each kind of start.

Also run in the guest.
"""

import json
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ..support.installation import Installation
from ..support.unprivileged import can_become_unprivileged, unprivileged_installation

PAGE = (Path(__file__).parents[2] / "docs/reference/job-environment.md").read_text()
AS_SERVER = "as the server"

FILES = """
import json, os
def flags(fd):
    return int(open(f"/proc/self/fdinfo/{fd}").read().split("flags:")[1].split()[0], 8)
found = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
print(json.dumps({fd: [os.readlink(f"/proc/self/fd/{fd}"), flags(fd)] for fd in found}))
"""
KEYS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
keyctl = 250 if __import__("os").uname().machine == "x86_64" else 219
session, describe, read = -3, 6, 11
text = ctypes.create_string_buffer(200)
if libc.syscall(keyctl, describe, session, text, 200, 0) < 0:
    print("errno", ctypes.get_errno())
else:
    print(text.value.decode().split(";")[-1], libc.syscall(keyctl, read, session, None, 0, 0))
"""


class Kind(NamedTuple):
    """A kind of start: the column of the page, the worker, the options of the job, and who the job is."""

    column: str
    worker: Installation
    options: tuple[str, ...]
    ids: tuple[int, int, list[int]]
    name: str
    home: str

    def run(self, *command: str) -> str:
        """Return the output of a job of this kind."""
        done = self.worker.run("run", *self.options, *command)
        assert (0, b"") == (done.returncode, done.stderr)
        return done.stdout.decode()

    def server(self, file: str) -> str:
        """Return a file of the server in /proc."""
        return Path(f"/proc/{self.worker.server_pid()}/{file}").read_text()


def of_server(column: str, worker: Installation) -> Kind:
    """Return the start of a job as the worker's own user."""
    status = _lines(Path(f"/proc/{worker.server_pid()}/status").read_text())
    uid, gid = int(status["Uid"].split()[0]), int(status["Gid"].split()[0])
    groups = [int(each) for each in status["Groups"].split()]
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Kind(column, worker, (), (uid, gid, groups), str(uid), "/")
    return Kind(column, worker, (), (uid, gid, groups), entry.pw_name, entry.pw_dir)


@pytest.fixture(scope="module", params=["root", "--user", "worker without root"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Each kind of start that is possible here."""
    column = request.param
    if column == "worker without root":
        if os.geteuid() != 0:
            yield of_server(column, request.getfixturevalue("shared"))
        elif can_become_unprivileged():
            with unprivileged_installation() as worker:
                yield of_server(column, worker)
        else:
            pytest.skip("setpriv is not installed")
    elif os.geteuid() != 0:
        pytest.skip("only for a worker that runs as root")
    elif column == "root":
        yield of_server(column, request.getfixturevalue("shared"))
    else:
        entry = pwd.getpwnam("nobody")
        groups = os.getgrouplist("nobody", entry.pw_gid)
        ids = entry.pw_uid, entry.pw_gid, groups
        worker = request.getfixturevalue("shared")
        yield Kind(column, worker, ("--user", "nobody"), ids, entry.pw_name, entry.pw_dir)


def test_descriptors(kind: Kind) -> None:
    """A job has the descriptors of the page, with these files and flags."""
    one = kind._replace(options=(*kind.options, "--no-split-output"))
    found = json.loads(one.run("python3", "-c", FILES))
    rows = table("fd")
    assert set(rows) == set(found)
    for fd, (file, flags) in found.items():
        row = rows[fd]
        named = re.findall(r"`(\S+)`", rows["1"]["file"] if row["file"].startswith("as 1") else row["file"])
        assert file.endswith(named[0])
        assert row["access"] == f"`{_access(flags)}`"


def test_separate_channels(kind: Kind) -> None:
    """With --split-output each channel has a FIFO of its own, with the same flags."""
    split = kind._replace(options=(*kind.options, "--split-output"))
    found = json.loads(split.run("python3", "-c", FILES))
    rows = table("fd")
    for fd in ("1", "2"):
        (named,) = re.findall(r"`(\S+)` with `--split-output`", rows[fd]["file"])
        assert found[fd][0].endswith(named)
        assert rows[fd]["access"] == f"`{_access(found[fd][1])}`"


def test_status(kind: Kind) -> None:
    """Ids, privileges and signals of a job are those of the page."""
    found, server = _lines(kind.run("cat", "/proc/self/status")), _lines(kind.server("status"))
    uid, gid, groups = kind.ids
    of_user = {
        "Uid": "\t".join([str(uid)] * 4),
        "Gid": "\t".join([str(gid)] * 4),
        "Groups": " ".join(map(str, sorted(groups))),
    }
    for name, row in table("line", after="Identity").items():
        stated = row[kind.column if kind.column in row else f"`{kind.column}`"]
        expected = {AS_SERVER: server[name], "of the user": of_user.get(name)}.get(
            stated, stated.strip("`")
        )
        assert (name, expected) == (name, found[name])


def test_limits(kind: Kind) -> None:
    """Each limit of a job is that of the page, or that of the server."""
    found, server = _limits(kind.run("cat", "/proc/self/limits")), _limits(kind.server("limits"))
    stated = table("line", after="Limits of processes")
    assert stated.keys() <= found.keys()
    for name, (soft, hard) in found.items():
        row = stated.get(name, {"soft": AS_SERVER, "hard": AS_SERVER})
        expected = [
            of_server if row[which] == AS_SERVER else row[which].strip("`")
            for which, of_server in zip(("soft", "hard"), server[name], strict=True)
        ]
        if name in stated and hard.isdigit() and expected[0].isdigit():
            expected[0] = str(min(int(expected[0]), int(hard)))
        assert (name, expected) == (name, [soft, hard])


def test_variables(kind: Kind) -> None:
    """A job has the variables of the page and no others."""
    job = kind.worker.start(*kind.options, "cat", "/proc/self/environ")
    pairs = kind.worker.stream(job).decode().rstrip("\0").split("\0")
    found = dict(pair.split("=", 1) for pair in pairs)
    rows = table("variable")
    known = {"HOME": kind.home, "USER": kind.name, "LOGNAME": kind.name, "WORKER_JOB_ID": job}
    expected = {name: known.get(name, row["value"].strip("`")) for name, row in rows.items()}
    assert expected == found


def test_keys(kind: Kind) -> None:
    """The session keyring of a job is new and empty."""
    name, size = kind.run("python3", "-c", KEYS).split()
    if name == "errno":
        pytest.skip(f"this kernel has no keyrings: {os.strerror(int(size))}")
    assert f"the name `{name}`" in PAGE
    assert "0" == size


def table(first: str, *, after: str = "") -> dict[str, dict[str, str]]:
    """Return the rows of a table of the page by their first cell; its heading begins with ``first``."""
    text = PAGE[PAGE.index(f"## {after}") :]
    lines = text[text.index(f"| {first} |") :].split("\n\n")[0].splitlines()
    heading, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(heading, row, strict=True)) for row in rows}


def _lines(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def _limits(text: str) -> dict[str, list[str]]:
    """Return soft and hard limit by name, from columns of fixed width."""
    return {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()[1:]}


def _access(flags: int) -> str:
    return {os.O_RDONLY: "O_RDONLY", os.O_WRONLY: "O_WRONLY", os.O_RDWR: "O_RDWR"}[flags & os.O_ACCMODE]
