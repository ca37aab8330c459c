"""Bounds on HTTP/2 frames that cost the server time and the client next to nothing.

The frames are counted before h2 parses them: it takes 20 us for each. A client that uses HTTP/2 as intended
stays below these bounds by far: it resets calls that it has made, opens windows for data that it has got,
and answers pings. https://www.rfc-editor.org/rfc/rfc9113#name-denial-of-service-considera
"""

from collections.abc import Callable

from ..bounds import Bounds
from ..rate import TokenBucket

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x8
_CONTINUATION = 0x9
_ACK = 0x1
_HEADER_SIZE = 9
_PREFACE_SIZE = 24

MOST_EFFORT = 128
"""Frames that are processed at once; then others get their turn."""

LONGEST_HEADERS = 8192
"""Bytes of the headers of a call, compressed or not: as gRPC suggests (its PROTOCOL-HTTP2.md)."""

_EFFORT_OF_CALL = 6
"""A frame that begins a call is as much work as so many others."""

_BYTES_OF_EFFORT = 8
"""Bytes of headers that are as much work as a frame: each may be a header, or a size of hpack's table."""

_BYTES_OF_SETTINGS = 60
"""Bytes of a SETTINGS frame that count as a whole one: ten settings, more than there are."""

_USELESS = "frames without effect (settings reset_burst, resets_per_second)"

_UPDATES_BURST = 1000
_UPDATES_PER_SECOND = 100
_UPDATES_PER_CALL = 8
_BYTES_PER_UPDATE = 8
"""A client may open the windows of call and connection for each frame, and a frame may have 16 bytes."""


class FrameBudgets:
    """Counts the frames of one client's connection; times are those of the event loop.

    ``sent`` returns how many bytes of data were sent to the client, and ``is_open`` whether there is a call
    with this stream id.
    """

    def __init__(
        self, bounds: Bounds, now: float, *, sent: Callable[[], int], is_open: Callable[[int], bool]
    ) -> None:
        self._sent = sent
        self._is_open = is_open
        self._skip = _PREFACE_SIZE  # bytes up to the next header of a frame
        self._header = b""
        self._resets = TokenBucket(bounds.reset_burst, bounds.resets_per_second, now)
        self._useless = TokenBucket(bounds.reset_burst, bounds.resets_per_second, now)
        self._pings = TokenBucket(bounds.ping_burst, bounds.pings_per_second, now)
        self._settings_left = bounds.max_settings_frames
        self._updates = TokenBucket(_UPDATES_BURST, _UPDATES_PER_SECOND, now)
        self._updates_beyond = 0
        self._calls = 0
        self._headers = 0  # bytes of the last headers
        self._begun: set[int] = set()  # calls that begin in the part that is counted now

    def take(self, data: bytes, start: int, now: float) -> tuple[int, str | None]:
        """Count frames from ``start`` on; return where to stop, and what there is too much of, if anything.

        That is the end of the data, or after a part that is processed in about a millisecond.
        """
        position, effort = start, 0
        self._begun.clear()
        while effort < MOST_EFFORT:
            if self._skip:
                skipped = min(self._skip, len(data) - position)
                self._skip -= skipped
                position += skipped
                if self._skip:
                    break
            part = data[position : position + _HEADER_SIZE - len(self._header)]
            position += len(part)
            header = self._header + part
            if len(header) < _HEADER_SIZE:
                self._header = header
                break
            self._header = b""
            self._skip = size = int.from_bytes(header[:3])
            kind = header[3]
            effort += _EFFORT_OF_CALL if kind == _HEADERS else 1
            if kind in {_HEADERS, _CONTINUATION}:
                effort += size // _BYTES_OF_EFFORT
                excess = self._count_headers(kind, header, size, now)
            else:
                excess = self._count(kind, header, size, now)
            if excess is not None:
                return position, excess
        return position, None

    def _count_headers(self, kind: int, header: bytes, size: int, now: float) -> str | None:
        """Count headers, or another part of them: h2 decodes all parts at once."""
        if kind == _HEADERS:
            self._calls += 1
            self._begun.add(_stream_of(header))
            self._headers = 0
        elif not self._useless.take(now):
            return _USELESS
        self._headers += size
        if self._headers <= LONGEST_HEADERS:
            return None
        return f"bytes of headers; the maximum is {LONGEST_HEADERS}"

    def _count(self, kind: int, header: bytes, size: int, now: float) -> str | None:
        if kind == _DATA:
            stream = _stream_of(header)
            useful = size and (self._is_open(stream) or stream in self._begun)
            allowed = useful or self._useless.take(now)
            return None if allowed else _USELESS
        if kind == _WINDOW_UPDATE:
            return None if self._may_update(now) else "window updates for data that was not sent"
        if kind == _RST_STREAM:
            allowed = self._resets.take(now)
            return None if allowed else "resets (settings reset_burst, resets_per_second)"
        if kind == _PING:
            # The answers to our pings are few.
            allowed = (self._useless if header[4] & _ACK else self._pings).take(now)
            return None if allowed else "pings (settings ping_burst, pings_per_second)"
        if kind == _SETTINGS:
            self._settings_left -= max(1, size // _BYTES_OF_SETTINGS)
            return None if self._settings_left >= 0 else "settings (setting max_settings_frames)"
        allowed = self._useless.take(now)
        return None if allowed else _USELESS

    def _may_update(self, now: float) -> bool:
        if self._updates.take(now):
            return True
        self._updates_beyond += 1
        earned = self._sent() // _BYTES_PER_UPDATE + self._calls * _UPDATES_PER_CALL
        return self._updates_beyond <= earned


def _stream_of(header: bytes) -> int:
    return int.from_bytes(header[5:9]) & 0x7FFFFFFF
