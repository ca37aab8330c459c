"""The index of times: right for any writes and crashes, bounded, and readable if it is damaged."""

import errno
import os
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import steps
from worker.core.errors import TimesNotKept
from worker.core.model.channel import Channel
from worker.core.model.job import Extent, Stamp
from worker.core.steps import Step
from worker.linux.output.times import ChannelTimes
from worker.linux.recorder import time_index
from worker.linux.recorder.segments import Segments
from worker.linux.recorder.time_index import INTERVAL, TimeIndex
from worker.linux.state.job_directory import times_bases, times_path
from worker.linux.state.time_entries import ENTRY

SIZE = 64
GRANULARITY = round(INTERVAL * 1000)
NOW = 1_700_000_000_000


class Died(BaseException):
    """Simulates SIGKILL."""


class Recording:
    """A recorder of one channel, whose clock the test sets; ``written`` has the time of each byte."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, most: int = 0, size: int = SIZE
    ) -> None:
        self.directory = directory
        self.now = self.passed = NOW
        self.written: list[int] = []
        self._most = most
        self._size = size
        clock = SimpleNamespace(monotonic=lambda: self.passed / 1000, time_ns=lambda: self.now * 1_000_000)
        monkeypatch.setattr(time_index, "time", clock)
        self.restart()

    def restart(self) -> None:
        """Start another recorder, as after a crash."""
        self.segments = Segments(str(self.directory), Channel.OUTPUT, self._size, self._most)
        self._times = TimeIndex(self.segments, str(self.directory), Channel.OUTPUT, self._size)

    def pause(self, milliseconds: int) -> None:
        """Let time pass."""
        self.now += milliseconds
        self.passed += milliseconds

    def write(self, size: int) -> None:
        """Write as the recorder splices."""
        while size:
            position, room = self.segments.room()
            self._times.note(self.segments.base + position)
            moved = os.pwrite(self.segments.file, bytes(min(size, room)), position)
            self.written += [self.now] * moved
            size -= moved

    def write_and_die(self, size: int) -> None:
        """Write, but die right after the time was noted, if it is."""

        def die(step: Step, job: object) -> None:
            if step is Step.TIME_NOTED:
                raise Died

        steps.add_step_hook(die)
        try:
            self.write(size)
        except Died:
            self.restart()
        finally:
            steps.remove_step_hook(die)

    @property
    def extent(self) -> Extent:
        """The kept range."""
        return Extent(self.segments.first, self.segments.end)

    @property
    def index(self) -> ChannelTimes:
        """The index as a server reads it."""
        return ChannelTimes(str(self.directory), Channel.OUTPUT)

    def read(self) -> list[int]:
        """Return the times of all kept bytes."""
        extent = self.extent
        if extent.first == extent.end:
            return []
        stamps = self.index.stamps(extent.first, extent.end)
        offsets = [stamp.offset for stamp in stamps]
        assert sorted(set(offsets)) == offsets
        assert extent.first == offsets[0]
        return [
            stamps[bisect_right(offsets, offset) - 1].time_ms for offset in range(extent.first, extent.end)
        ]


writes = st.lists(
    st.tuples(st.integers(0, 3 * SIZE), st.sampled_from([0, 1, 30, 99, 100, 5000]), st.booleans()),
    max_size=40,
)


@given(writes=writes, most=st.sampled_from([0, 2, 4]))
def test_each_byte_has_the_time_at_which_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, int, bool]], most: int
) -> None:
    """At most 100 ms too early, never too late, and in order; whatever the recorder dies at."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        recording = Recording(tmp_path_factory.mktemp("job"), monkeypatch, most)
        for size, pause, dies in writes:
            recording.pause(pause)
            if dies:
                recording.write_and_die(size)
            else:
                recording.write(size)
        extent, times = recording.extent, recording.read()
        truth = recording.written[extent.first :]
        assert len(truth) == len(times)
        assert sorted(times) == times
        assert all(0 <= real - known <= GRANULARITY for real, known in zip(truth, times, strict=True))
        for wanted in {*times, NOW, recording.now + 1}:
            expected = next((n for n, known in enumerate(times) if known >= wanted), len(times))
            assert extent.first + expected == recording.index.offset_at(wanted, extent)


@given(pauses=st.lists(st.integers(1, 40) | st.integers(1, 10**6), min_size=100, max_size=300))
def test_an_index_is_bounded(tmp_path_factory: pytest.TempPathFactory, pauses: list[int]) -> None:
    """A full file loses half of its entries, and each time stays right within a part of the whole time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(time_index, "LEAST", 16 * ENTRY.size)
        recording = Recording(tmp_path_factory.mktemp("job"), monkeypatch, size=256)
        for pause in pauses:
            recording.write(1)
            recording.pause(pause * 10)
            for base in times_bases(recording.directory, Channel.OUTPUT):
                size = os.stat(times_path(recording.directory, Channel.OUTPUT, base)).st_size
                assert 16 * ENTRY.size >= size
        wrong = [real - known for real, known in zip(recording.written, recording.read(), strict=True)]
        most_wrong = GRANULARITY + 8 * (recording.now - NOW) // 16
        assert all(0 <= each <= most_wrong for each in wrong)


def test_a_flood_writes_few_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand segments at once have some twenty entries, and most have no file of their own."""
    recording = Recording(tmp_path, monkeypatch, most=2)
    for _ in range(1000):
        recording.write(SIZE)
    assert 2 >= len(times_bases(tmp_path, Channel.OUTPUT))
    assert 22 * SIZE >= times_bases(tmp_path, Channel.OUTPUT)[-1]
    recording.pause(2 * GRANULARITY)
    recording.write(2 * SIZE)
    assert 2 >= len(times_bases(tmp_path, Channel.OUTPUT))
    assert recording.written[-2 * SIZE :] == recording.read()


def test_a_job_that_writes_little_has_an_exact_time_for_each_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if some writes follow each other closely."""
    recording = Recording(tmp_path, monkeypatch)
    for pause in (1000, 3, 3, 3, 1000, 1000, 5):
        recording.pause(pause)
        recording.write(5)
    assert recording.written == recording.read()


def test_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later bytes have earlier times; a time that occurs twice is found once."""
    recording = Recording(tmp_path, monkeypatch)
    for change in (0, 1000, -1500, 1000):
        recording.now += change
        recording.passed += 1000
        recording.write(1)
    assert [NOW, NOW + 1000, NOW - 500, NOW + 500] == recording.read()
    found = recording.index.offset_at(NOW + 400, recording.extent)
    assert found in {1, 3}
    recording.now = -5000  # before 1970
    recording.passed += 1000
    recording.write(1)
    assert 1 == recording.read()[-1]


@pytest.mark.parametrize("damage", [b"torn", bytes(15), bytes(ENTRY.size), bytes(100)])
def test_a_damaged_end_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    """A torn entry, or zeros after a power failure, is no entry; the next recorder continues."""
    recording = Recording(tmp_path, monkeypatch)
    recording.write(3)
    with open(times_path(tmp_path, Channel.OUTPUT, 0), "ab") as index:
        index.write(damage)
    assert recording.written == recording.read()
    recording.restart()
    recording.pause(1000)
    recording.write(3)
    assert recording.written[-1] - NOW == recording.read()[-1] - NOW == 1000


@given(
    data=st.binary(max_size=200)
    | st.lists(st.tuples(*[st.integers(0, 120)] * 2)).map(
        lambda entries: b"".join(ENTRY.pack(*entry) for entry in entries)
    )
)
def test_any_content_of_an_index_can_be_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """The stamps are those of the requested bytes, in order, so that no output is lost or repeated."""
    directory = tmp_path_factory.mktemp("job")
    Path(times_path(directory, Channel.OUTPUT, 0)).write_bytes(data)
    index = ChannelTimes(str(directory), Channel.OUTPUT)
    with suppress(TimesNotKept):
        assert 0 <= index.offset_at(50, Extent(0, 100)) <= 100
    with suppress(TimesNotKept):
        offsets = [stamp.offset for stamp in index.stamps(0, 100)]
        assert sorted(set(offsets)) == offsets
        assert 0 == offsets[0]
        assert 100 > offsets[-1]


def test_a_full_disk_delays_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes without an entry have the time of the one before; entries follow when there is room again."""
    recording = Recording(tmp_path, monkeypatch)
    recording.write(1)
    recording.pause(1000)
    with monkeypatch.context() as full:

        def refuse(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(os, "lseek", refuse)  # only the index uses it
        recording.write(2 * SIZE)
    recording.pause(1000)
    recording.write(1)
    assert {NOW} == set(recording.read()[:-1])
    assert NOW + 2000 == recording.read()[-1]


def test_a_write_that_is_refused_adds_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is full the recorder retries for hours; the last retry has the time of the bytes."""
    recording = Recording(tmp_path, monkeypatch)
    recording.write(1)
    for _ in range(100):
        recording.pause(1000)
        recording._times.note(recording.segments.end)
    assert 2 * ENTRY.size == os.stat(times_path(tmp_path, Channel.OUTPUT, 0)).st_size
    recording.write(1)
    assert recording.written == recording.read()


def test_output_without_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of output of an earlier version are not known, but those of later output are."""
    recording = Recording(tmp_path, monkeypatch)
    assert 0 == recording.index.offset_at(NOW, recording.extent)
    os.pwrite(recording.segments.file, bytes(10), 0)
    with pytest.raises(TimesNotKept, match="output before byte 10 was written"):
        recording.index.stamps(0, 10)
    for wanted in (0, NOW, NOW + 1):
        with pytest.raises(TimesNotKept, match="output before byte 10 was written"):
            recording.index.offset_at(wanted, recording.extent)
    recording.write(5)
    with pytest.raises(TimesNotKept, match="output before byte 10 was written"):
        recording.index.stamps(9, 15)
    assert [Stamp(12, NOW)] == recording.index.stamps(12, 15)
    with pytest.raises(TimesNotKept, match="output before byte 10 was written"):
        recording.index.offset_at(NOW, recording.extent)
    recording.pause(1000)
    recording.write(5)
    assert 15 == recording.index.offset_at(NOW + 1, recording.extent)
