"""Segments of recorded output: their size is bounded, and their offsets stay right if files are deleted."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import steps
from worker.core.model.ending import Channel
from worker.core.model.job import SMALLEST_OUTPUT
from worker.core.steps import Step
from worker.linux.output.store import PIPE_SIZE, SEGMENT_SIZE, segments_within
from worker.linux.recorder.segments import Segments
from worker.linux.state.job_directory import segment_bases, segment_path

SIZE = 8


def make(directory: Path, most: int = 0) -> Segments:
    """Open the segments of a channel as a recorder does."""
    return Segments(directory, Channel.OUTPUT, SIZE, most)


def record(segments: Segments, data: bytes) -> None:
    """Write as the recorder splices."""
    while data:
        offset, room = segments.room()
        data = data[os.pwrite(segments.file, data[:room], offset) :]


def kept(directory: Path) -> tuple[int, bytes]:
    """Return the first offset and all kept bytes; they must have no gap."""
    bases = segment_bases(directory, Channel.OUTPUT)
    data = b""
    for base in bases:
        assert bases[0] + len(data) == base
        data += Path(segment_path(directory, Channel.OUTPUT, base)).read_bytes()
    return bases[0], data


@pytest.mark.parametrize("left", [0, 1, 2])
def test_segments_continue_at_the_end_of_the_output(tmp_path: Path, left: int) -> None:
    """However many segments are left, later output has its true offset."""
    segments = make(tmp_path)
    record(segments, b"x" * 2 * SIZE + b"yz")
    segments.close()
    for base in segment_bases(tmp_path, Channel.OUTPUT)[left:]:
        Path(segment_path(tmp_path, Channel.OUTPUT, base)).unlink()
    segments = Segments(tmp_path, Channel.OUTPUT, SIZE, 0, 2 * SIZE + 2)
    record(segments, b"new")
    assert 2 * SIZE + 5 == segments.end
    assert b"new" == Path(segment_path(tmp_path, Channel.OUTPUT, 2 * SIZE + 2)).read_bytes()
    segments.close()


@given(most=st.integers(2 * PIPE_SIZE, 1 << 40), size=st.integers(PIPE_SIZE, SEGMENT_SIZE))
def test_segments_fit_the_bound(most: int, size: int) -> None:
    """All segments together never exceed it; without the one being filled, half of it is kept."""
    length, count = segments_within(most, size)
    assert length * count <= most
    assert 2 * length * (count - 1) >= most - count
    assert PIPE_SIZE // 2 <= length <= size


def test_a_bound_makes_eight_segments_where_it_can() -> None:
    """Without a bound they have the configured size, with a small bound that of a pipe."""
    assert (SEGMENT_SIZE, 0) == segments_within(0, SEGMENT_SIZE)
    assert (PIPE_SIZE, 2) == segments_within(SMALLEST_OUTPUT // 2, SEGMENT_SIZE)
    assert (1 << 20, 8) == segments_within(8 << 20, SEGMENT_SIZE)
    assert (SEGMENT_SIZE, 16) == segments_within(1 << 30, SEGMENT_SIZE)


class Died(BaseException):
    """Simulates SIGKILL."""


@given(
    writes=st.lists(st.binary(max_size=3 * SIZE) | st.sampled_from(Step), max_size=20),
    most=st.integers(2, 4),
)
def test_a_recorder_that_dies_keeps_the_latest_bytes(
    tmp_path_factory: pytest.TempPathFactory, writes: list[bytes | Step], most: int
) -> None:
    """A recorder that dies at any step, and its successor, keep a suffix of the output at its offset."""
    directory = tmp_path_factory.mktemp("job")
    Path(segment_path(directory, Channel.OUTPUT, 0)).touch()
    segments, written, crash_points = make(directory, most), b"", list[Step]()

    def die(step: Step, job: object) -> None:
        if step in crash_points:
            crash_points.clear()
            raise Died

    steps.add_step_hook(die)
    try:
        for item in writes:
            if isinstance(item, Step):
                crash_points.append(item)
                continue
            try:
                record(segments, item)
            except Died:
                segments = make(directory, most)
            first, data = kept(directory)
            written += item[: first + len(data) - len(written)]
            assert written.endswith(data)
            assert len(written) == first + len(data) == segments.end
            assert min(len(written), (most - 1) * SIZE) <= len(data) <= most * SIZE
    finally:
        steps.remove_step_hook(die)
        segments.close()


def delete_segment(directory: Path) -> None:
    """Delete the file being written."""
    Path(segment_path(directory, Channel.OUTPUT, segment_bases(directory, Channel.OUTPUT)[-1])).unlink()


@pytest.mark.parametrize("delete", [delete_segment, shutil.rmtree])
def test_a_deleted_segment_is_followed_by_another(tmp_path: Path, delete: Callable[[Path], None]) -> None:
    """Later output can be read at its offset."""
    directory = tmp_path / "job"
    directory.mkdir()
    segments = make(directory)
    record(segments, b"0123456789")
    delete(directory)
    record(segments, b"ab")
    assert [10] == segment_bases(directory, Channel.OUTPUT)[-1:]
    assert b"ab" == Path(segment_path(directory, Channel.OUTPUT, 10)).read_bytes()
    assert 12 == segments.end
    segments.close()


def test_a_directory_that_was_moved_is_not_recreated(tmp_path: Path) -> None:
    """It may be moved back, and recording then continues in it."""
    directory = tmp_path / "job"
    directory.mkdir()
    segments = make(directory)
    record(segments, bytes(SIZE))
    directory.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        segments.room()
    assert not directory.exists()
    (tmp_path / "elsewhere").rename(directory)
    record(segments, b"more")
    assert (0, bytes(SIZE) + b"more") == kept(directory)
    segments.close()


def test_a_segment_that_cannot_be_deleted_delays_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound holds if the file system refuses; recording resumes once it does not."""
    segments = make(tmp_path, most=2)
    record(segments, bytes(2 * SIZE))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                segments.room()
    record(segments, b"x")
    assert (SIZE, bytes(SIZE) + b"x") == kept(tmp_path)
    segments.close()
