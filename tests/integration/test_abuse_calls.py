"""Attacks with calls: what the server's memory and the calls of another client have to do with them.

Another client's calls are counted while an attack runs. Each test states how many it must at least be
relative to the attack, since both slow down on a loaded machine.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import grpc
import pytest

from worker.proto.worker import (
    AttachOpen,
    AttachOutput,
    AttachRequest,
    ListRequest,
    StartRequest,
    StreamRequest,
    StreamResponse,
)

from ..support.abused import Abused, serving_abused
from ..support.attacker import ENHANCE_YOUR_CALM, attacking, message
from ..support.served import BINARY

MB = 1 << 20
CANCEL = 8
SERVICE = "/worker.v1.WorkerService/"
JOBS = 300


@pytest.fixture(scope="module")
def abused(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Abused]:
    """A server with many finished jobs, so that a list of them is work."""
    with serving_abused(pki, tmp_path_factory.mktemp("abused") / "log", JOBS) as abused:
        yield abused


def calls_during(abused: Abused, attack: Callable[[], object], attacker: str = "reader") -> int:
    """Run an attack in another thread; return how many calls another client got answered meanwhile."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            attack()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failures.append(error)

    with abused.other(attacker) as other:
        before = other.answered
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            other.call()
        thread.join()
        if failures:
            raise failures[0]
        return other.answered - before


def refusal(call: Callable[..., object], request: bytes) -> tuple[grpc.StatusCode, str]:
    """Return the status of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60)
    return caught.value.code(), caught.value.details() or ""


ENTRY = {"List": b"\x0a\x00", "Start": b"\x3a\x00"}
"""An empty entry of the map of labels."""


@pytest.mark.parametrize(
    ("name", "method", "size", "reason"),
    [
        (
            "reader",
            "List",
            4 * MB,
            "the request has 4194304 bytes; the maximum is 65536 (setting max_request_size)",
        ),
        (
            "reader",
            "List",
            64 << 10,
            "malformed request: ListRequest.labels: there are more than 4096 fields",
        ),
        (
            "writer",
            "Start",
            4 * MB,
            "malformed request: StartRequest.labels: there are more than 262144 fields",
        ),
        (
            "writer",
            "Start",
            5 * MB,
            "the request has 5242880 bytes; the maximum is 4194304 (setting max_start_size)",
        ),
    ],
)
def test_requests_of_many_fields(abused: Abused, name: str, method: str, size: int, reason: str) -> None:
    """Two million empty entries of a map are refused, and others are answered at least as often."""
    times = 5

    def attack() -> None:
        with abused.channel(name) as channel:
            attacked = channel.unary_unary(SERVICE + method)
            for _ in range(times):
                assert reason == refusal(attacked, ENTRY[method] * (size // 2))[1]

    assert times <= calls_during(abused, attack, name)


@pytest.mark.parametrize(
    ("name", "method", "size"), [("writer", "Start", 4 * MB), ("reader", "Query", 64 << 10)]
)
def test_requests_that_stay_incomplete(abused: Abused, name: str, method: str, size: int) -> None:
    """Their bytes are bounded, the client's windows stay closed, and the memory is released afterwards."""
    calls = 300
    after = []
    with abused.other(name) as other:
        for _ in range(3):
            before = abused.resident()
            with attacking(abused.port, abused.pki, name) as attacker:
                sent = 0
                for number in range(calls):
                    stream = 2 * number + 1
                    attacker.begin(stream, SERVICE + method, message(b"", size))
                attacker.flush()
                for stream in range(1, 2 * calls, 2):
                    left = size - 1
                    while left:
                        while attacker.readable():
                            assert attacker.receive()
                        room = min(attacker.h2.local_flow_control_window(stream), 16384, left)
                        if room <= 0:
                            break
                        attacker.h2.send_data(stream, bytes(room))
                        attacker.flush()
                        left -= room
                        sent += room
                        other.call() if not sent % MB else None
                other.call(10)
                # 16 MiB for the client, and a window of 64 KiB for calls made before the server's settings.
                assert sent <= 16 * MB + calls * (64 << 10)
                assert abused.resident() - before <= 2 * sent + 32 * MB
            other.call(10)
            after.append(abused.resident())
    assert after[2] - after[0] <= 16 * MB


def test_many_lists_at_once(abused: Abused) -> None:
    """Between two lists of one client, which takes its turns, another client gets several answers."""
    times = 50

    def attack() -> None:
        with abused.channel("reader") as channel:
            lists = channel.unary_unary(SERVICE + "List")
            for each in [lists.future(bytes(ListRequest()), timeout=300) for _ in range(times)]:
                each.result()

    assert times <= calls_during(abused, attack)


def test_replies_that_are_not_read(pki: Path, tmp_path: Path) -> None:
    """They are bounded for each client: further ones are refused at once, and others are answered."""
    bound, lists = MB, 100
    with (
        serving_abused(pki, tmp_path / "log", JOBS, max_reply_memory_per_client=bound) as abused,
        abused.other() as other,
        attacking(abused.port, pki, window=0) as attacker,
    ):
        before = abused.resident()
        for stream in range(1, 2 * lists, 2):
            attacker.begin(stream, SERVICE + "List", message(b""), end=True)
            attacker.flush()
            other.call()
        while not any("max_reply_memory_per_client" in each for each in attacker.statuses.values()):
            assert attacker.receive()
        other.call(10)
        assert abused.resident() - before <= bound + 16 * MB


STREAMS = {
    "bytes": (SERVICE + "Stream", lambda job: StreamRequest(job_id=job), 1),
    "text": ("/WorkerService/Stream", lambda job: StreamRequest(job_id=job), 1),
    "attach": (
        SERVICE + "Attach",
        lambda job: AttachRequest(open=AttachOpen(job_id=job, output=[AttachOutput()])),
        2,  # the first one says that the call is open
    ),
}
"""Methods with output: path, request, and the number of the message that has output."""


@pytest.mark.parametrize("kind", STREAMS)
def test_output_that_is_not_read(pki: Path, tmp_path: Path, kind: str) -> None:
    """It is bounded for each client with its other replies, and all of its streams go on."""
    bound, number = MB, 300
    path, request, last = STREAMS[kind]
    with (
        serving_abused(pki, tmp_path / "log", max_reply_memory_per_client=bound) as abused,
        abused.other("writer") as other,
        abused.channel("writer") as channel,
        attacking(abused.port, pki, "writer", window=20) as attacker,
    ):
        before = abused.resident()
        for stream in range(1, 2 * number, 2):
            attacker.begin(stream, path, message(bytes(request(abused.jobs[2]))))
            attacker.flush()
        while attacker.data < 20 * number:
            assert attacker.receive()
        assert number * last == len(attacker.got)
        other.call(10)
        assert abused.resident() - before <= bound + number * (40 << 10)
        output = channel.unary_stream(SERVICE + "Stream")(bytes(StreamRequest(job_id=abused.jobs[0])))
        assert BINARY == b"".join(StreamResponse.parse(each).output for each in output)


def test_unread_streams_that_are_reset(pki: Path, tmp_path: Path) -> None:
    """A client of h2 that opens streams and resets them unread leaves nothing, and is told to stop."""
    bound, batch, connections, most = MB, 15, 4, 20
    path = SERVICE + "Stream"
    with (
        serving_abused(
            pki, tmp_path / "log", max_reply_memory_per_client=bound, max_streams_per_client=most
        ) as abused,
        abused.other("writer") as other,
        abused.channel("writer") as channel,
    ):
        request = bytes(StreamRequest(job_id=abused.jobs[2]))
        before, told = 0, []
        for _ in range(connections):
            with attacking(abused.port, pki, "writer", window=20) as attacker:
                streams = iter(range(1, 1 << 20, 2))
                while not attacker.closed:
                    opened = list(islice(streams, batch))
                    for stream in opened:
                        attacker.begin(stream, path, message(request))
                    attacker.flush()
                    other.call()  # meanwhile some of them have begun
                    for stream in opened:
                        attacker.h2.reset_stream(stream, CANCEL)
                    attacker.flush()
                    while attacker.readable() and attacker.receive():
                        pass
                if attacker.goodbye is not None:  # a client that goes on sending may lose it: TCP resets
                    told.append(attacker.goodbye)
            before = before or abused.resident()
        assert {ENHANCE_YOUR_CALM} == {each.error_code for each in told}
        assert all(b"resets (settings reset_burst" in (each.additional_data or b"") for each in told)
        assert abused.resident() - before <= bound + 8 * MB
        # None of them counts any more.
        streaming = channel.unary_stream(path)
        calls = [streaming(request) for _ in range(most)]
        assert [True] * most == [bool(next(each)) for each in calls]
        for each in calls:
            each.cancel()


def test_streams_that_wait_for_output(pki: Path, tmp_path: Path) -> None:
    """What they have sent is not in memory any more."""
    number = 200
    with (
        serving_abused(pki, tmp_path / "log") as abused,
        abused.other() as other,
        attacking(abused.port, pki, window=1 << 20) as attacker,
    ):
        attacker.h2.increment_flow_control_window(1 << 30)
        before = abused.resident()
        for count, stream in enumerate(range(1, 2 * number, 2), 1):
            attacker.begin(stream, SERVICE + "Stream", message(bytes(StreamRequest(job_id=abused.jobs[2]))))
            attacker.flush()
            while attacker.data < count * len(BINARY):
                assert attacker.receive()
        other.call(10)
        assert abused.resident() - before <= number * (40 << 10)


def test_a_reply_that_is_not_read_is_abandoned(pki: Path, tmp_path: Path) -> None:
    """As a stream is: it ends after a while, with the setting in its status."""
    with (
        serving_abused(pki, tmp_path / "log", reply_timeout=0.2) as abused,
        attacking(abused.port, pki, window=0) as attacker,
    ):
        attacker.begin(1, SERVICE + "List", message(b""), end=True)
        attacker.flush()
        attacker.until_answered(1)
        assert attacker.statuses[1].startswith("14 ")
        assert "setting reply_timeout" in attacker.statuses[1]


def test_many_calls_in_one_write(abused: Abused) -> None:
    """Calls that arrive at once are begun in turns: others are answered in between."""
    calls = 900

    def attack() -> None:
        with attacking(abused.port, abused.pki) as attacker:
            streams = range(1, 2 * calls, 2)
            path = SERVICE + "Query"
            for stream in streams:
                attacker.begin(stream, path, message(b""), end=True)
            attacker.flush()
            attacker.until_answered(*streams)

    assert calls // 20 <= calls_during(abused, attack)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (
            StartRequest(name="true", request_id="x" * 129),
            "the request id has 129 bytes; the maximum is 128",
        ),
        (
            StartRequest(name="true", request_id="x" * MB),
            "the request id has 1048576 bytes; the maximum is 128",
        ),
        (
            StartRequest(name="true", labels={str(n): "" for n in range(65)}),
            "there are 65 labels; the maximum is 64",
        ),
        (StartRequest(name="true", labels={"a": "b" * (64 << 10)}), "the labels have 65537 bytes"),
    ],
    ids=["129 bytes", "a megabyte", "65 labels", "long labels"],
)
def test_what_a_job_is_called_is_bounded(abused: Abused, request_: StartRequest, reason: str) -> None:
    """Request id and labels stay in the journal; too long ones are refused, and nothing is started."""
    with abused.channel("writer") as channel:
        code, text = refusal(channel.unary_unary(SERVICE + "Start"), bytes(request_))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
    assert text.startswith(reason)
    assert "(setting max_" in text


@pytest.mark.parametrize("program", ["true", "sleep"], ids=["finished", "running"])
def test_jobs_with_large_requests(pki: Path, tmp_path: Path, program: str) -> None:
    """What the server keeps of the jobs of one client is bounded, whether they run or have ended."""
    bound, jobs = 8 * MB, 1000
    requests = {
        "labels": StartRequest(
            name=program, args=["30"], labels={str(each): "x" * 1000 for each in range(64)}
        ),
        "arguments": StartRequest(name=program, args=["30", *["xy"] * 60_000]),
    }
    with (
        serving_abused(pki, tmp_path / "log", max_job_memory_per_client=bound) as abused,
        abused.other("writer") as other,
        abused.channel("writer") as channel,
    ):
        before = abused.resident()
        start = channel.unary_unary(SERVICE + "Start")
        for request in requests.values():
            calls = (start(bytes(request), timeout=60) for _ in range(jobs))
            with pytest.raises(grpc.RpcError) as refused:
                deque(calls, maxlen=0)
            assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.value.code()
            assert "(setting max_job_memory_per_client)" in refused.value.details()
        other.call(10)
        assert abused.resident() - before <= 2 * bound + 16 * MB


def test_calls_of_one_client_are_bounded(pki: Path, tmp_path: Path) -> None:
    """The next one is refused with the name of the setting; another client is not concerned."""
    with (
        serving_abused(pki, tmp_path / "log", max_calls_per_client=5) as abused,
        abused.other() as other,
        attacking(abused.port, pki) as attacker,
    ):
        streams = range(1, 13, 2)
        for stream in streams:
            attacker.begin(stream, SERVICE + "Query")
        attacker.flush()
        attacker.until_answered(11)
        assert "max_calls_per_client" in attacker.statuses[11]
        other.call(10)


def test_the_size_that_a_prefix_announces_is_not_allocated(abused: Abused) -> None:
    """Four gigabytes are refused when they are announced."""
    with attacking(abused.port, abused.pki) as attacker:
        attacker.begin(1, SERVICE + "Query", message(b"", 0xFFFFFFFF))
        attacker.flush()
        attacker.until_answered(1)
        assert "4294967295 bytes" in attacker.statuses[1]
