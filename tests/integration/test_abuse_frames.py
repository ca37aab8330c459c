"""Attacks below the calls: floods of frames, TLS without HTTP/2, connections that end in an unusual way."""

import fcntl
import os
import re
import ssl
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ..support.abused import QUERY, Abused, Other, serving_abused
from ..support.attacker import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    UNKNOWN,
    WINDOW_UPDATE,
    Attacker,
    attacking,
    call,
    frame,
    message,
)

LIST, STREAM, WAIT = (f"/worker.v1.WorkerService/{name}" for name in ("List", "Stream", "Wait"))
CANCEL = b"\0\0\0\x08"


@pytest.fixture(scope="module")
def abused(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Abused]:
    """A server for all tests of this module."""
    with serving_abused(pki, tmp_path_factory.mktemp("abused") / "log") as abused:
        yield abused


@pytest.fixture
def other(abused: Abused) -> Iterator[Other]:
    """Another client than the attacker."""
    with abused.other() as other:
        yield other


def reset(number: int) -> bytes:
    """Return a call that is cancelled at once."""
    stream = 2 * number + 1
    return call(stream, LIST) + frame(RST_STREAM, 0, stream, CANCEL)


FLOODS: dict[str, tuple[Callable[[int], bytes], str]] = {
    "resets": (reset, "resets (settings reset_burst, resets_per_second)"),
    "resets of ended calls": (
        lambda _: frame(RST_STREAM, 0, 1, CANCEL),
        "resets (settings reset_burst, resets_per_second)",
    ),
    "pings": (lambda _: frame(PING, 0, 0, b"12345678"), "pings (settings ping_burst, pings_per_second)"),
    "settings": (lambda _: frame(SETTINGS, 0, 0), "settings (setting max_settings_frames)"),
    "settings in one frame": (
        lambda _: frame(SETTINGS, 0, 0, b"\xff\0\0\0\0\0" * 60),
        "settings (setting max_settings_frames)",
    ),
    "updates": (
        lambda _: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        "window updates for data that was not sent",
    ),
    "priorities": (
        lambda _: frame(PRIORITY, 0, 1, bytes(5)),
        "frames without effect (settings reset_burst",
    ),
    "unknown": (lambda _: frame(UNKNOWN, 0, 0), "frames without effect (settings reset_burst"),
    "empty data": (lambda _: frame(DATA, 0, 1), "frames without effect (settings reset_burst"),
    "data of no call": (lambda _: frame(DATA, 0, 1, b"x"), "frames without effect (settings reset_burst"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_frames_ends_the_connection(abused: Abused, other: Other, flood: str) -> None:
    """After a burst the client gets GOAWAY with ENHANCE_YOUR_CALM and the reason; others are answered."""
    made, reason = FLOODS[flood]
    with attacking(abused.port, abused.pki) as attacker:
        if flood != "resets":  # a call that has ended
            attacker.send(call(1, LIST) + frame(RST_STREAM, 0, 1, CANCEL))
        number = 0
        while not attacker.closed and number < 100_000:
            attacker.send(b"".join(made(number + each) for each in range(50)))
            number += 50
            other.call()
            while attacker.readable() and attacker.receive():
                pass
        attacker.until_closed()
        assert attacker.goodbye is not None
        assert ENHANCE_YOUR_CALM == attacker.goodbye.error_code
        assert reason in (attacker.goodbye.additional_data or b"").decode()
        assert number <= 10_000


def test_a_client_that_reads_little_at_a_time_is_served(abused: Abused) -> None:
    """It opens the windows of call and connection for each frame that it gets, however small these are."""
    calls, window = 100, 16
    with attacking(abused.port, abused.pki, window=window) as attacker:
        for number in range(calls):
            attacker.begin(2 * number + 1, LIST, message(b""), end=True)
        attacker.flush()
        updates = 0
        while len(attacker.statuses) < calls:
            attacker.got.clear()
            assert attacker.receive(), attacker.goodbye
            for stream in attacker.got:
                if stream not in attacker.statuses:
                    attacker.h2.increment_flow_control_window(window, stream)
                    attacker.h2.increment_flow_control_window(1)
                    updates += 2
            attacker.flush()
        assert updates > 2000  # more than it may send without data


@pytest.mark.parametrize("header", [b"\x20", b"\x95"], ids=["size of the table", "indexed"])
def test_headers_that_take_long_to_decode(abused: Abused, other: Other, header: bytes) -> None:
    """Megabytes of headers, each byte of which hpack has to process, are refused before it does."""
    part = header * (1 << 17)
    with attacking(abused.port, abused.pki) as attacker:
        attacker.send(frame(HEADERS, 0, 1, part) + frame(CONTINUATION, 0, 1, part) * 59)
        attacker.send(frame(CONTINUATION, END_HEADERS, 1, part))
        other.call()
        attacker.until_closed()
    assert "the client sends too many bytes of headers; the maximum is 8192" in abused.log.read_text()


def test_headers_that_become_long_when_decoded(abused: Abused, other: Other) -> None:
    """Their size without compression is bounded as well, also for a client that does not acknowledge it."""
    with attacking(abused.port, abused.pki) as attacker:
        attacker.send(frame(HEADERS, END_HEADERS, 1, b"\x95" * 1000))
        attacker.until_closed()
        other.call()


def test_a_continuation_that_never_ends(abused: Abused, other: Other) -> None:
    """It is a protocol error before it is a megabyte."""
    before = abused.resident()
    with attacking(abused.port, abused.pki) as attacker:
        attacker.send(frame(0x1, 0, 1, b"\x00\x01a\x7f\xff\x7f"))
        for _ in range(500):
            attacker.send(frame(CONTINUATION, 0, 1, bytes(16384)))
            other.call()
        attacker.until_closed()
    assert abused.resident() - before <= 16 << 20


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_a_client_without_http2_is_rejected(abused: Abused, alpn: str | None) -> None:
    """It has to negotiate it (ALPN), also if it speaks it then."""
    with attacking(abused.port, abused.pki, alpn=alpn) as attacker:
        attacker.until_closed()
    assert "the client does not offer HTTP/2 (ALPN protocol h2)" in abused.log.read_text()


def test_a_connection_that_ends_during_calls_is_no_error(abused: Abused, other: Other) -> None:
    """The close_notify of TLS, or a reset by TCP, is no traceback, and no line for each call."""
    before = abused.log.stat().st_size
    job = message(b"\x0a\x24" + abused.jobs[1].encode())
    for leave in (unwrap, Attacker.close):
        with attacking(abused.port, abused.pki, window=10) as attacker:
            for number, (path, content, end) in enumerate(
                [
                    *[(QUERY, None, False)] * 10,
                    *[(QUERY, message(b"", 1000), False)] * 10,
                    *[(LIST, message(b""), True)] * 10,
                    *[(STREAM, job, True)] * 10,
                    *[(WAIT, job, True)] * 10,
                ]
            ):
                attacker.begin(2 * number + 1, path, content, end=end)
            attacker.flush()
            while len(set(attacker.got)) < 20:  # lists and streams have begun
                assert attacker.receive()
            leave(attacker)
            other.call(5)
    with abused.log.open() as log:
        log.seek(before)
        text = log.read()
    assert "Traceback" not in text
    ended = re.compile(r"a connection of 'reader' has ended during \d+ calls$")
    assert [True, True] == [bool(ended.search(line)) for line in text.splitlines()], text


def unwrap(attacker: Attacker) -> None:
    """Send close_notify, and close the connection once the server has done so."""
    with suppress(ssl.SSLError):  # what the server has sent before is not read
        attacker.socket.unwrap()
    attacker.close()


@pytest.mark.skipif(not Path("/usr/bin/openssl").exists(), reason="needs openssl")
def test_a_flood_of_key_updates_ends_the_connection(abused: Abused, other: Other) -> None:
    """The module ssl does not report them; what TLS needs besides data is bounded."""
    pki = abused.pki
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{abused.port}", "-alpn", "h2"]
    command += ["-cert", str(pki / "reader.crt"), "-key", str(pki / "reader.key")]
    command += ["-CAfile", str(pki / "ca.crt")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as client:
        assert client.stdin is not None
        pipe, sent = client.stdin.fileno(), 0
        while client.poll() is None and sent < 50_000:
            if unread(pipe):  # the program makes one update of all that it reads at once
                continue
            try:
                os.write(pipe, b"k\n")
            except BrokenPipeError:
                break
            sent += 1
            if not sent % 1000:
                other.call()
        client.kill()
    assert sent < 50_000
    assert "closing a connection of 'reader': the client sends too many TLS records without data" in (
        abused.log.read_text()
    )


def unread(pipe: int) -> int:
    """Return how many bytes are in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
