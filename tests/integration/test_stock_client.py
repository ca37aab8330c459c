"""What a stock client of the original API can do, and which of its requests are rejected."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

from ..support.stock import (
    NOWHERE,
    PATIENCE,
    Stock,
    error_of,
)


@pytest.fixture
def writer(stock: Stock) -> Iterator[Any]:
    """The stub of a client with all rights."""
    with stock.channel("writer") as channel:
        yield stock.stub(channel)


@pytest.fixture
def reader(stock: Stock) -> Iterator[Any]:
    """The stub of a client that may only query and stream."""
    with stock.channel("reader") as channel:
        yield stock.stub(channel)


@pytest.fixture
def start(stock: Stock, writer: Any) -> Callable[..., str]:
    """Start a job with the original request and return its id."""

    def start(name: str, *args: str) -> str:
        request = stock.messages.StartRequest(name=name, args=args)
        return str(writer.Start(request, timeout=PATIENCE).jobID)

    return start


@pytest.fixture
def stream(stock: Stock, reader: Any) -> Callable[[str], str]:
    """Return the complete output of a job as text, once it is finished."""

    def stream(job: str) -> str:
        replies = reader.Stream(stock.messages.StreamRequest(jobID=job), timeout=PATIENCE)
        return "".join(reply.output for reply in replies)

    return stream


# --- calls of a writer and of a reader


def test_start_query_and_stream(
    stock: Stock, reader: Any, start: Callable[..., str], stream: Callable[[str], str]
) -> None:
    """The example of the original design."""
    job = start("ls", "/")
    assert job == str(UUID(job))
    assert sorted(path.name for path in Path("/").iterdir() if path.name[0] != ".") == sorted(
        stream(job).split()
    )
    status = reader.Query(stock.messages.QueryRequest(jobID=job))
    assert status.pid > 0
    assert (0, True) == (status.exitCode, status.exited)


def test_stop(stock: Stock, writer: Any, reader: Any, start: Callable[..., str]) -> None:
    """It returns when the job is finished; a finished job cannot be stopped."""
    job = start("sleep", "1000")
    assert not reader.Query(stock.messages.QueryRequest(jobID=job)).exited
    request = stock.messages.StopRequest(jobID=job)
    assert stock.messages.StopResponse() == writer.Stop(request, timeout=PATIENCE)
    status = reader.Query(stock.messages.QueryRequest(jobID=job))
    assert (143, True) == (status.exitCode, status.exited)
    assert (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the process is already finished",
    ) == error_of(lambda: writer.Stop(request))


def test_a_reader_may_not_change_anything(
    stock: Stock, reader: Any, start: Callable[..., str], writer: Any
) -> None:
    """Start and Stop are denied, and nothing happens."""
    job = start("sleep", "1000")
    for call in (
        lambda: reader.Start(stock.messages.StartRequest(name="touch", args=["/tmp/denied"])),
        lambda: reader.Stop(stock.messages.StopRequest(jobID=job)),
    ):
        assert grpc.StatusCode.PERMISSION_DENIED == error_of(call)[0]
    assert not reader.Query(stock.messages.QueryRequest(jobID=job)).exited
    assert not Path("/tmp/denied").exists()
    writer.Stop(stock.messages.StopRequest(jobID=job))


def test_many_clients_stream_the_same_job(stock: Stock, start: Callable[..., str]) -> None:
    """Clients that connect before, during or after the job all get its output from the first byte."""
    job = start("sh", "-c", "for i in $(seq 200); do echo line $i; sleep 0.005; done")

    def stream(_number: int) -> str:
        with stock.channel("reader") as channel:
            request = stock.messages.StreamRequest(jobID=job)
            return "".join(reply.output for reply in stock.stub(channel).Stream(request, timeout=PATIENCE))

    expected = "".join(f"line {number}\n" for number in range(1, 201))
    with ThreadPoolExecutor(8) as pool:
        assert [expected] * 16 == list(pool.map(stream, range(16)))


def test_text_is_never_split_within_a_character(
    start: Callable[..., str], stream: Callable[[str], str]
) -> None:
    """A character that the job writes in two halves arrives whole; invalid UTF-8 becomes U+FFFD."""
    job = start("sh", "-c", r"printf 'a\342\202'; sleep 0.2; printf '\254b\377c\342\202'")
    assert "a€b\ufffdc\ufffd" == stream(job)


def test_a_megabyte_of_text_in_characters_of_three_bytes(
    start: Callable[..., str], stream: Callable[[str], str]
) -> None:
    """No boundary of a chunk changes the text."""
    job = start("sh", "-c", "yes '€' | tr -d '\\n' | head -c 3000000")
    assert "€" * 1_000_000 == stream(job)


def test_a_client_that_cancels_its_stream_affects_no_other(
    stock: Stock, writer: Any, reader: Any, start: Callable[..., str]
) -> None:
    """The job and other streams continue."""
    job = start("sh", "-c", "echo first; sleep 1000")
    request = stock.messages.StreamRequest(jobID=job)
    for _ in range(3):
        replies = reader.Stream(request)
        assert "first\n" == next(replies).output
        replies.cancel()
    assert not reader.Query(stock.messages.QueryRequest(jobID=job)).exited
    writer.Stop(stock.messages.StopRequest(jobID=job))


def test_the_clients_deadline_does_not_abort_a_stop(
    shared: Any, stock: Stock, writer: Any, reader: Any, stream: Callable[[str], str]
) -> None:
    """The client stops waiting, and the job still ends."""
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    job = shared.start("--grace", "1s", "sh", "-c", script)
    assert "ready\n" == next(reader.Stream(stock.messages.StreamRequest(jobID=job))).output
    code, _ = error_of(lambda: writer.Stop(stock.messages.StopRequest(jobID=job), timeout=0.1))
    assert grpc.StatusCode.DEADLINE_EXCEEDED == code
    assert "ready\n" == stream(job)
    assert 137 == reader.Query(stock.messages.QueryRequest(jobID=job)).exitCode


# --- requests that are rejected


@pytest.mark.parametrize("job", ["", "x", NOWHERE, "a\nb\x01%41€"])
def test_an_unknown_job(stock: Stock, writer: Any, reader: Any, job: str) -> None:
    """The error of every method contains the exact id."""
    messages = stock.messages
    for call in (
        lambda: reader.Query(messages.QueryRequest(jobID=job)),
        lambda: writer.Stop(messages.StopRequest(jobID=job)),
        lambda: next(reader.Stream(messages.StreamRequest(jobID=job))),
    ):
        assert (grpc.StatusCode.NOT_FOUND, f"Job {job} not found") == error_of(call)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "command: is empty"), ("no-such-command", "No such file"), ("/etc/passwd", "denied"), ("/", "")],
)
def test_a_command_that_cannot_be_run(stock: Stock, writer: Any, name: str, reason: str) -> None:
    """It is an invalid argument; the message has the reason."""
    code, details = error_of(lambda: writer.Start(stock.messages.StartRequest(name=name)))
    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert reason in details


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/WorkerService/Start", b"\x0a\x7fls"),
        ("/WorkerService/Start", b"\xff\xff"),
        ("/WorkerService/Start", b"\x0a\x02\xff\xfe"),
        ("/WorkerService/Start", b"\x08\x01"),
        ("/worker.v1.WorkerService/Start", b"\x0a\x02ls\x40\xff"),
        ("/WorkerService/Query", b"\x0b"),
        ("/WorkerService/Stop", b"\0"),
        ("/WorkerService/Stream", b"\x0a"),
    ],
)
def test_malformed_messages(stock: Stock, path: str, data: bytes) -> None:
    """Bytes that are not a request are an invalid argument; the message describes the fault."""
    with stock.channel("writer") as channel:
        code, details = error_of(lambda: channel.unary_unary(path)(data, timeout=PATIENCE))
    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert details.startswith("malformed request: ")


def test_a_request_that_is_too_long(stock: Stock) -> None:
    """More than 4 MiB are rejected; the message has the limit."""
    with stock.channel("writer") as channel:
        call = channel.unary_unary("/WorkerService/Start")
        code, details = error_of(lambda: call(b"\x0a" * ((4 << 20) + 1), timeout=PATIENCE))
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (code, str(4 << 20) in details)


def test_a_compressed_request(stock: Stock, writer: Any) -> None:
    """It is rejected as unimplemented, and not misread."""
    request = stock.messages.StartRequest(name="true", args=["x" * 10_000])
    code, details = error_of(lambda: writer.Start(request, compression=grpc.Compression.Gzip))
    assert grpc.StatusCode.UNIMPLEMENTED == code
    assert "compressed" in details


def test_a_method_that_does_not_exist(stock: Stock) -> None:
    """The original's path has only the original's methods."""
    with stock.channel("writer") as channel:
        for path in ("/WorkerService/List", "/worker.v1.WorkerService/Nothing", "/x.Y/Z"):
            assert grpc.StatusCode.UNIMPLEMENTED == error_of(partial(channel.unary_unary(path), b""))[0]


def test_the_standard_health_service(stock: Stock) -> None:
    """The answer is SERVING, or NOT_FOUND for an unknown service, as any prober expects."""
    with stock.channel("reader") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert b"\x08\x01" == check(b"")
        assert grpc.StatusCode.NOT_FOUND == error_of(lambda: check(b"\x0a\x01x"))[0]
