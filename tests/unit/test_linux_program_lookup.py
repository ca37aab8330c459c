"""Which file a command is, and whether a user other than root can change what is executed."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from worker.core.model.job import JobSpec
from worker.core.policy.calls import Ids
from worker.core.policy.rules import Policy
from worker.linux.spawner.host_lookup import HostLookup
from worker.linux.spawner.program_file import read_program
from worker.linux.spawner.program_lookup import find_program

from ..support.policies import read

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can create files that are safe")
OTHER = 65534


@pytest.fixture
def safe() -> Iterator[Path]:
    """A directory that only root can write to, and so its parents."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="worker-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    """Create an executable file."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def unsafe(path: Path | str) -> str:
    """Return why a program is unsafe."""
    found = find_program(str(path), "/", "/bin")
    assert not found.missing
    return found.unsafe


@AS_ROOT
def test_a_file_of_root_in_directories_of_root_is_safe(safe: Path) -> None:
    """Nobody else can change it, also where links of root are on the way."""
    file = program(safe / "x")
    (safe / "link").symlink_to(file)
    (safe / "relative").symlink_to(f"../{safe.name}/./x")
    assert ["", "", ""] == [unsafe(each) for each in (file, safe / "link", safe / "relative")]


def others_directory(safe: Path) -> Path:
    """Another user's directory."""
    os.chown(safe, OTHER, 0)
    return program(safe / "x")


def writable_directory(safe: Path) -> Path:
    """Writable directory."""
    safe.chmod(0o775)
    return program(safe / "x")


def sticky_directory(safe: Path) -> Path:
    """Sticky directory."""
    safe.chmod(0o1777)
    return program(safe / "x")


def others_file(safe: Path) -> Path:
    """Another user's file."""
    os.chown(program(safe / "x"), OTHER, 0)
    return safe / "x"


def writable_file(safe: Path) -> Path:
    """Writable file."""
    program(safe / "x").chmod(0o757)
    return safe / "x"


def others_link(safe: Path) -> Path:
    """Another user's link."""
    (safe / "x").symlink_to("/bin/true")
    os.chown(safe / "x", OTHER, 0, follow_symlinks=False)
    return safe / "x"


def link_through_another_directory(safe: Path) -> Path:
    """Link through another directory."""
    (safe / "open").mkdir()
    (safe / "open" / "bin").symlink_to("/usr/bin")
    (safe / "open").chmod(0o777)
    (safe / "x").symlink_to("open/bin/true")
    return safe / "x"


def others_interpreter(safe: Path) -> Path:
    """Another user's interpreter."""
    os.chown(program(safe / "sh"), OTHER, 0)
    return program(safe / "x", f"#!{safe}/sh -e\n")


def interpreter_of_an_interpreter(safe: Path) -> Path:
    """Interpreter of an interpreter."""
    os.chown(program(safe / "sh"), OTHER, 0)
    program(safe / "between", f"#!{safe}/sh\n")
    return program(safe / "x", f"#! {safe}/between\n")


def relative_interpreter(safe: Path) -> Path:
    """Relative interpreter."""
    return program(safe / "x", "#!sh\n")


def missing_interpreter(safe: Path) -> Path:
    """Missing interpreter."""
    return program(safe / "x", f"#!{safe}/nosuch\n")


@AS_ROOT
@pytest.mark.parametrize(
    "make",
    [
        others_directory,
        writable_directory,
        sticky_directory,
        others_file,
        writable_file,
        others_link,
        link_through_another_directory,
        others_interpreter,
        interpreter_of_an_interpreter,
        relative_interpreter,
        missing_interpreter,
    ],
)
def test_what_others_can_change_is_unsafe(safe: Path, make: Callable[[Path], Path]) -> None:
    """A directory, a file, a link or an interpreter on the way that others can change is reported."""
    assert unsafe(make(safe))


def test_a_name_is_looked_up_in_the_path_of_the_policy_only(tmp_path: Path) -> None:
    """The first directory with an executable file of this name counts; the file keeps its name."""
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    (tmp_path / "0" / "x").write_text("not executable")
    program(tmp_path / "2" / "y")
    (tmp_path / "1" / "x").symlink_to("../2/y")
    found = find_program("x", "/", ":".join(str(tmp_path / str(number)) for number in range(3)))
    assert str(tmp_path / "1" / "x") == found.path
    assert {str(tmp_path / "1" / "x"), str(tmp_path / "2" / "y")} <= found.names


def test_the_directory_has_no_links_and_the_last_component_is_as_typed(tmp_path: Path) -> None:
    """Applets and alternatives stay different commands, whatever their links point to."""
    (tmp_path / "real").mkdir()
    program(tmp_path / "real" / "busybox")
    (tmp_path / "real" / "ls").symlink_to("busybox")
    (tmp_path / "bin").symlink_to("real")
    found = find_program("bin/../bin/ls", str(tmp_path), "/bin")
    assert str(tmp_path / "real" / "ls") == found.path
    assert {f"{tmp_path}/bin/../bin/ls", f"{tmp_path}/bin", f"{tmp_path}/real/busybox"} <= found.names


def test_what_does_not_exist_is_missing(tmp_path: Path) -> None:
    """A loop of links, a dangling link and an unknown name are missing; a path is still known."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nosuch")
    for name in ("loop", "dangling", "nosuch", "nosuch/../x"):
        found = find_program(f"./{name}", str(tmp_path), "/bin")
        assert found.missing
        assert str(tmp_path / os.path.normpath(name)) == found.path
    assert find_program("nosuch", "/", str(tmp_path)).missing


def test_what_is_kept_is_what_was_found() -> None:
    """What is known without a lookup is the result of the lookup; a relative command is never kept."""
    policy = read(
        '[[rule]]\ncalls = ["start"]\ncommands = ["*"]\nusers = ["root", "nosuch"]\ngroups = ["0"]\n'
    )
    lookup = HostLookup()
    for spec in (JobSpec("sh"), JobSpec("/bin/sh", ["-c"])):
        assert lookup.known_facts(spec, policy) is None
        facts = lookup.facts(spec, policy)
        if not facts.program.unsafe:
            assert facts == lookup.known_facts(spec, policy)
    assert facts.accounts.users.keys() <= {"root"}
    assert {"0": 0} == facts.accounts.groups
    for spec in (JobSpec("bin/sh"), JobSpec("sh", working_directory="/usr"), JobSpec("nosuch")):
        lookup.facts(spec, policy)
        assert lookup.known_facts(spec, policy) is None
    assert lookup.known_facts(JobSpec("sh"), Policy()) is None
    assert lookup.known_program("/usr/bin/env") is None
    wrapper = lookup.program("/usr/bin/env")
    if not wrapper.unsafe:
        assert wrapper == lookup.known_program("/usr/bin/env")


@AS_ROOT
def test_users_are_numbers_after_lookup() -> None:
    """The default user, a user with a group, and one who does not exist."""
    lookup, policy = HostLookup("nobody"), Policy()

    def ids(user: str | None) -> tuple[Ids, Ids]:
        accounts = lookup.facts(JobSpec("sh", user=user), policy).accounts
        return accounts.job, accounts.member

    nobody = Ids(OTHER, OTHER, frozenset({OTHER}))
    assert (nobody, nobody) == ids(None)
    assert (Ids(OTHER, 0), nobody) == ids("nobody:root")
    assert -1 == ids("nosuch")[0].uid
    assert Ids(0, 0).uid == ids("root")[0].uid


def test_a_directory_is_followed_as_the_kernel_does(tmp_path: Path) -> None:
    """One that the kernel does not follow stays as it is: its job follows no link, and does not start."""
    (tmp_path / "d").mkdir()
    (tmp_path / "link40").symlink_to("d")
    for number in range(40):
        (tmp_path / f"link{number}").symlink_to(f"link{number + 1}")
    (tmp_path / "loop").symlink_to("loop")
    lookup = HostLookup()
    for name, found in (
        ("link1", "d"),
        ("link30/../link31/.", "d"),
        ("link0", "link0"),
        ("loop", "loop"),
        ("nosuch/../x", "x"),
        ("d/../nosuch", "nosuch"),
    ):
        spec = JobSpec("sh", working_directory=f"{tmp_path}/{name}")
        assert f"{tmp_path}/{found}" == lookup.facts(spec, Policy()).directory


def test_a_file_that_becomes_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """Another user can exchange it between the look at its type and the open(2), which would never end."""
    path, file, fifo, end = tmp_path / "x", tmp_path / "file", tmp_path / "fifo", Event()
    program(file)
    os.mkfifo(fifo)
    os.link(file, path)

    def exchange() -> None:
        while not end.is_set():
            for other in (fifo, file):
                os.link(other, tmp_path / "new")
                os.replace(tmp_path / "new", path)

    thread = Thread(target=exchange)
    thread.start()
    try:
        for _ in range(2000):
            read_program(str(path))
    finally:
        end.set()
        thread.join()
