"""What a client may send over HTTP/2: any honest client stays below the bounds, in any parts."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from worker.api.bounds import Bounds
from worker.api.grpc.frame_budgets import LONGEST_HEADERS, MOST_EFFORT, FrameBudgets

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x8
CONTINUATION = 0x9
BOUNDS = Bounds()


def frame(kind: int, stream: int = 0, size: int = 0, flags: int = 0) -> bytes:
    """Return a frame of zeros."""
    return struct.pack(">HBBBL", size >> 8, size & 0xFF, kind, flags, stream) + bytes(size)


class Sent:
    """Counts what an imagined server has sent, and what of a client's data is refused."""

    def __init__(self, open_streams: set[int] | None = None) -> None:
        self.bytes = 0
        self.now = 0.0
        self._budgets = FrameBudgets(
            BOUNDS,
            0.0,
            sent=lambda: self.bytes,
            is_open=lambda stream: open_streams is None or stream in open_streams,
        )
        assert self.excess(PREFACE) is None

    def excess(self, data: bytes) -> str | None:
        """Return what there is too much of."""
        position = 0
        while position < len(data):
            position, excess = self._budgets.take(data, position, self.now)
            if excess is not None:
                return excess
        return None


frames = st.lists(
    st.tuples(
        st.sampled_from([*range(11), 200]), st.sampled_from([0, 1, 3]), st.sampled_from([0, 4, 8, 300])
    ),
    max_size=300,
)


@given(frames=frames, cuts=st.lists(st.integers(1, 2000), max_size=30))
def test_the_parts_in_which_data_arrives_do_not_matter(
    frames: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    """The result is the same for frames that are cut anywhere."""
    data = b"".join(frame(kind, stream, size) for kind, stream, size in frames)
    whole, parts = Sent({1}), Sent({1})
    found = None
    start = 0
    for cut in [*cuts, len(data)]:
        found = found or parts.excess(data[start : start + cut])
        start += cut
    assert whole.excess(data) == found


@given(calls=st.lists(st.integers(0, 1 << 20), min_size=1, max_size=100))
def test_an_honest_client_is_never_refused(calls: list[int]) -> None:
    """It sends calls, opens windows for each frame of 16 KiB or more that it gets, and pings rarely."""
    client = Sent()
    assert client.excess(frame(SETTINGS) + frame(SETTINGS, flags=1)) is None
    for number, size in enumerate(calls):
        stream = 2 * number + 1
        assert client.excess(frame(HEADERS, stream, 50) + frame(DATA, stream, 40)) is None
        for _ in range(size // 16384 + 1):
            client.bytes += 16384
            assert client.excess(frame(WINDOW_UPDATE, stream, 4) + frame(WINDOW_UPDATE, 0, 4)) is None
        client.now += 0.1
        assert client.excess(frame(PING, 0, 8) + frame(PING, 0, 8, flags=1)) is None


@given(rate=st.integers(100, 10_000), seconds=st.integers(1, 20))
def test_what_has_no_effect_is_bounded_by_burst_and_rate(rate: int, seconds: int) -> None:
    """However it is distributed over time, no more than the burst and the rate is accepted."""
    for kind, size, burst, per_second in (
        (RST_STREAM, 4, BOUNDS.reset_burst, BOUNDS.resets_per_second),
        (PING, 8, BOUNDS.ping_burst, BOUNDS.pings_per_second),
        (DATA, 0, BOUNDS.reset_burst, BOUNDS.resets_per_second),
    ):
        client = Sent()
        accepted = 0
        for _ in range(seconds * rate):
            client.now += 1 / rate
            if client.excess(frame(kind, 1, size)) is not None:
                break
            accepted += 1
        assert accepted <= burst + client.now * per_second + 1
        assert accepted >= min(burst, seconds * rate)


def test_many_frames_are_processed_in_parts() -> None:
    """Others get their turn between two parts, each of which ends with a header of a frame."""
    budgets = FrameBudgets(BOUNDS, 0.0, sent=lambda: 1 << 30, is_open=lambda _: True)
    data = PREFACE + frame(WINDOW_UPDATE, 0, 4) * 1000
    position, parts = 0, 0
    while position < len(data):
        position, excess = budgets.take(data, position, 0.0)
        assert excess is None
        parts += 1
    assert 1000 // MOST_EFFORT + 1 == parts


@given(parts=st.lists(st.integers(0, 5000), min_size=1, max_size=10))
def test_the_headers_of_a_call_are_bounded_with_all_their_parts(parts: list[int]) -> None:
    """They are refused when their frames together are too long; those of another call are counted anew."""
    client = Sent()
    assert client.excess(frame(HEADERS, 1, LONGEST_HEADERS)) is None
    first, *others = parts
    excess = client.excess(
        frame(HEADERS, 3, first) + b"".join(frame(CONTINUATION, 3, each) for each in others)
    )
    assert (sum(parts) > LONGEST_HEADERS) == (excess is not None)


def test_long_headers_are_processed_alone() -> None:
    """Each of their bytes may be a header, or a new size of the table: that is as much as many frames."""
    budgets = FrameBudgets(BOUNDS, 0.0, sent=lambda: 0, is_open=lambda _: True)
    data = PREFACE + frame(HEADERS, 1, LONGEST_HEADERS) + frame(HEADERS, 3, 50)
    position, excess = budgets.take(data, 0, 0.0)
    assert (len(PREFACE) + 9, None) == (position, excess)


def test_settings_are_counted_by_their_number() -> None:
    """A frame with thousands of them, each of which h2 keeps, is as many frames."""
    client = Sent()
    assert client.excess(frame(SETTINGS, 0, 6 * 10)) is None
    assert client.excess(frame(SETTINGS, 0, 6 * 20_000)) is not None
