"""Damaged histories: never taken for that of another process, and never fatal to a supervisor."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.lifecycle import MainEnded, Termination
from worker.core.model.ending import (
    Cause,
    Channel,
    End,
    Exited,
)
from worker.core.model.job import JobSpec
from worker.core.ports import RecordedFifo
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.state.history import (
    History,
    HistoryUnreadable,
    StartRecord,
    create_history,
    open_history,
    provisional_histories,
    provisional_path,
    read_history,
    remove_history,
    revoke_start,
    write_end,
    write_main,
    write_termination,
)

PLAN = SpawnPlan(
    JobSpec("true"), sinks={Channel.OUTPUT: RecordedFifo("/far/output.fifo", "/far/output", 65536, 4)}
)
START = StartRecord(7, 8, "boot", 1.5, None, PLAN)
MAIN = MainEnded(Exited(3), 0)
END = End(Exited(3), Cause.NONE, 0, {Channel.OUTPUT: 6}, 3.5)
WHOLE = History(START, "g1", main=MAIN, end=END)


def record_process(history: int, provisional: str, path: Path) -> None:
    """Record a process as linux/zygote/child.c does."""
    os.write(history, b'\n{"process": {"pid": 7, "start": 8}}')
    os.close(history)
    os.rename(provisional, path)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a history for further records."""
    history = open_history(path)
    yield history
    os.close(history)


def write(path: Path) -> bytes:
    """Write a whole history and return its bytes."""
    path.unlink(missing_ok=True)
    record_process(create_history(path, 0, START, "g1"), provisional_path(path, 0), path)
    with opened(path) as history:
        write_main(history, MAIN)
        write_end(history, END)
    return path.read_bytes()


def test_a_whole_history(tmp_path: Path) -> None:
    """What was written is read back."""
    path = tmp_path / "history"
    assert None is read_history(path)
    write(path)
    assert WHOLE == read_history(path)


def test_a_history_has_its_name_once_it_names_the_process(tmp_path: Path) -> None:
    """Before that the process cannot execute the command, so no supervisor needs to know the job."""
    path = tmp_path / "history"
    os.close(create_history(path, 0, START, "g1"))
    assert None is read_history(path)
    assert [provisional_path(path, 0)] == provisional_histories(path)


def test_a_start_is_revoked_before_the_process_is_recorded(tmp_path: Path) -> None:
    """The process cannot give the history its name any more, nor that of another attempt."""
    path = tmp_path / "history"
    history = create_history(path, 0, START, "g1")
    revoke_start(path)
    os.close(create_history(path, 1, START, "g1"))
    with pytest.raises(FileNotFoundError):
        record_process(history, provisional_path(path, 0), path)
    assert None is read_history(path)


def test_a_start_is_revoked_after_the_process_was_recorded(tmp_path: Path) -> None:
    """The history stays: the process may execute the command."""
    path = tmp_path / "history"
    record_process(create_history(path, 0, START, "g1"), provisional_path(path, 0), path)
    revoke_start(path)
    assert History(START, "g1") == read_history(path)
    remove_history(path)
    assert [] == list(tmp_path.iterdir())


@given(data=st.data())
def test_a_truncated_history(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A torn line is ignored, the lines before it count; without the main process it is unreadable."""
    path = tmp_path_factory.mktemp("job") / "history"
    whole = write(path)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"}\n") + (cut == len(whole))
    expected = [None, None, History(START, "g1"), History(START, "g1", main=MAIN), WHOLE, WHOLE]
    try:
        found = read_history(path)
    except HistoryUnreadable:
        assert lines <= 1
        return
    # The last line may be complete except for the newline that begins the next one.
    assert found in expected[max(2, lines) : lines + 2]


@given(data=st.data(), junk=st.binary(min_size=1, max_size=40))
def test_a_history_with_arbitrary_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, junk: bytes
) -> None:
    """It is read or rejected as unreadable; no other exception is raised."""
    path = tmp_path_factory.mktemp("job") / "history"
    whole = write(path)
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    try:
        found = read_history(path)
    except HistoryUnreadable:
        return
    assert found is None or isinstance(found, History)


@pytest.mark.parametrize("start", [b"", b'\n{"start": {"pid": 1'], ids=["none", "torn"])
def test_a_child_whose_supervisor_died_before_recording_it(tmp_path: Path, start: bytes) -> None:
    """Its own record that it never executed the command is enough: there is no job."""
    path = tmp_path / "history"
    path.write_bytes(start)
    history = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(history, b'\n{"stillborn": "release 4"}')
    os.close(history)
    assert None is read_history(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'\n{"start": {"pid": 1',
        b"garbage",
        b"\0" * 100,
        b'\n{"end": 5}',
        b'\n{"start": 5}\n{"main": null}',
        b'\n{"start": {"pid": 1}}\n',
        b'\ndamaged\n{"generation": "g1"}',
        b"\n[1]\n5\nnull",
    ],
)
def test_contents_that_no_supervisor_writes(tmp_path: Path, text: bytes) -> None:
    """They are rejected with the name of the file, and the file is not changed."""
    path = tmp_path / "history"
    path.write_bytes(text)
    with pytest.raises(HistoryUnreadable, match=f"^{path} "):
        read_history(path)
    assert text == path.read_bytes()


@pytest.mark.parametrize(
    "termination",
    [
        Termination(15, True, 12.5, 20.0, Cause.STOPPED),
        Termination(2, True, None, 20.0, Cause.TIMED_OUT),
        Termination(15, False, 12.5, 14.5),
    ],
)
def test_a_termination(tmp_path: Path, termination: Termination) -> None:
    """The latest one counts, also after the end of the main process."""
    path = tmp_path / "history"
    write(path)
    with opened(path) as history:
        write_termination(history, Termination(15, True, 30.0, 40.0, termination.cause))
        write_termination(history, termination)
    found = read_history(path)
    assert found is not None
    assert termination == found.termination


def test_a_stop_of_an_earlier_version(tmp_path: Path) -> None:
    """It has signalled every process at once; the cause is that of the main process, if it has ended."""
    path = tmp_path / "history"
    for main, cause in ((None, Cause.STOPPED), (MAIN, Cause.NONE)):
        path.unlink(missing_ok=True)
        write(path)
        text = path.read_text().split('\n{"main"')[0]
        path.write_text(f'{text}\n{{"stop": [15, 20.0]}}')
        if main is not None:
            with opened(path) as history:
                write_main(history, main)
        found = read_history(path)
        assert found is not None
        assert Termination(15, True, None, 20.0, cause) == found.termination


def test_a_stop_for_an_earlier_version(tmp_path: Path) -> None:
    """A supervisor of an earlier version finds signal and time of SIGKILL of a requested stop."""
    path = tmp_path / "history"
    write(path)
    with opened(path) as history:
        write_termination(history, Termination(15, True, 12.5, 20.0, Cause.STOPPED))
    assert [15, 20.0] == json.loads(path.read_text().rpartition("\n")[2])["stop"]
