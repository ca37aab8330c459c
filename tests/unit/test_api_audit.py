"""What a server records of connections and calls, through real connections."""

import asyncio
import json
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.api.audit import ApiAudit
from worker.api.errors import ErrorReply
from worker.api.grpc.requests import WINDOW
from worker.api.grpc.status import Status
from worker.api.health_services import AUDIT_SERVICE
from worker.api.identity import ANONYMOUS_CALLER
from worker.api.methods import METHODS
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.audit.record import Event, line
from worker.core.audit.trail import AuditTrail
from worker.core.model.ending import Channel
from worker.core.model.job import JobSpec
from worker.core.model.limits import MemoryLimit, ResourceLimits
from worker.core.model.stream_start import BEGINNING
from worker.core.testing import MemoryAuditLog
from worker.proto import worker as proto

from ..support.attaching import attach_once
from ..support.audit_page import assert_documented
from ..support.audited import auditing, facts
from ..support.examples import examples
from ..support.served import BINARY, RawCodec, serving, unary


async def test_the_start_of_a_job(pki: Path) -> None:
    """The decision comes before the job, the outcome after it; secrets are in neither."""
    spec = JobSpec(
        "echo",
        ["--password", "hunter2"],
        env={"TOKEN": "not hexadecimal"},
        working_directory="/srv",
        user="nobody",
        limits=ResourceLimits(memory=MemoryLimit(max=1 << 20)),
        name="build",
    )
    async with auditing(pki) as audited:
        async with audited.served.client() as client:
            job = str(await client.start(spec))
            await Job(client, job).wait()
        (decision,), (outcome,) = audited.named(Event.DECISION), audited.named(Event.OUTCOME)
        assert ["connection_opened", "decision", "job_started", "outcome"] == [
            each["event"] for each in audited.log.records if each["event"] != "job_ended"
        ][:4]
        described = {
            "command": ["echo", "--password", "[redacted]"],
            "environment": ["TOKEN"],
            "directory": "/srv",
            "user": "nobody",
            "limits": {"memory.max": 1 << 20},
            "job_name": "build",
        }
        host, _, port = decision.pop("address").rpartition(":")
        assert ("127.0.0.1", True) == (host, port.isdigit())
        assert decision == {
            "time": decision["time"],
            "event": "decision",
            "id": decision["id"],
            "identity": "writer",
            "roles": ["writer"],
            **facts(pki / "writer.crt"),
            "method": "Start",
            "allowed": True,
            "rule": "role:writer",
            **described,
        }
        assert outcome == {
            "time": outcome["time"],
            "event": "outcome",
            "id": decision["id"],
            "identity": "writer",
            "method": "Start",
            "job": job,
            "code": "OK",
            "duration": outcome["duration"],
        }
        assert "hunter2" not in json.dumps(audited.log.records)
        assert "not hexadecimal" not in json.dumps(audited.log.records)
        (started,), (ended,) = audited.named(Event.JOB_STARTED), audited.named(Event.JOB_ENDED)
        assert {"job": job, "identity": "writer", **described}.items() <= started.items()
        assert {"job": job, "identity": "writer"}.items() <= ended.items()
        assert (0, "none") == (ended["exit_code"], ended["cause"])
        assert decision["time"] <= started["time"] <= outcome["time"]


async def test_what_is_changed(pki: Path) -> None:
    """Stop, signal, update and remove are recorded with what they ask for, and failures with the reason."""
    async with auditing(pki) as audited:
        async with audited.served.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
            await Job(client, job).update(ResourceLimits(pids=5))
            await Job(client, job).pause()
            await Job(client, job).stop(signal=2, grace=0)
            with pytest.raises(RpcError):
                await Job(client, job).stop()
            await Job(client, job).remove()
        records = audited.named(Event.DECISION, Event.OUTCOME)
        assert [
            ("Start", None),
            ("Update", {"pids": 5}),
            ("Pause", None),
            ("Stop", 2),
            ("Stop", None),
            ("Remove", None),
        ] == [
            (each["method"], each.get("limits", each.get("signal")))
            for each in records
            if each["event"] == "decision"
        ]
        outcomes = [each for each in records if each["event"] == "outcome"]
        assert {job} == {each["job"] for each in outcomes}
        assert ["OK"] * 4 + ["FailedPrecondition", "OK"] == [each["code"] for each in outcomes]
        assert "the process is already finished" == outcomes[4]["message"]
        by_id = {each["id"]: each for each in records if each["event"] == "decision"}
        assert [each["method"] for each in outcomes] == [by_id[each["id"]]["method"] for each in outcomes]
        assert len(outcomes) == len(by_id)


async def test_a_denied_call(pki: Path) -> None:
    """It is recorded with who asked and why it was denied, also if it only reads."""
    async with auditing(pki) as audited:
        async with audited.served.client("reader") as client:
            with pytest.raises(RpcError, match="PermissionDenied"):
                await client.start(JobSpec("true"))
        async with audited.served.client("nobody") as client:
            with pytest.raises(RpcError, match="PermissionDenied"):
                await client.list()
        first, second = audited.named(Event.DECISION)
        assert ("reader", "Start", False) == (first["identity"], first["method"], first["allowed"])
        assert first["reason"].startswith("Start requires a role with the right to write")
        assert ["true"] == first["command"]
        assert {"roles": ["reader"], **facts(pki / "reader.crt")}.items() <= first.items()
        assert ("nobody", "List", False) == (second["identity"], second["method"], second["allowed"])
        assert [] == audited.named(Event.OUTCOME, Event.JOB_STARTED)


def test_the_reason_of_a_denial_has_no_secret() -> None:
    """It names the command, which may be a variable that was meant for a shell."""
    log = MemoryAuditLog()
    call = ApiAudit(AuditTrail(log)).call(METHODS["/worker.v1.WorkerService/Start"], ANONYMOUS_CALLER)
    call.deny("may not start TOKEN=hunter2/x", proto.StartRequest(name="TOKEN=hunter2/x"))
    [record] = log.records
    assert "may not start TOKEN=[redacted]" == record["reason"]
    assert ["TOKEN=[redacted]"] == record["command"]


@pytest.mark.parametrize(
    ("words", "recorded"), [(16, True), (WINDOW, False)], ids=["a short request", "a long request"]
)
async def test_the_command_of_a_start_that_no_role_allows(pki: Path, words: int, recorded: bool) -> None:  # noqa: FBT001
    """It is recorded if its request is short: a client without rights occupies little memory and disk."""
    async with auditing(pki) as audited, audited.served.client("reader") as client:
        with pytest.raises(RpcError, match="Start requires a role with the right to write"):
            await client.start(JobSpec("echo", ("--password=x", *["y"] * words)))
        (denied,) = audited.named(Event.DECISION)
        assert (False, recorded) == (denied["allowed"], "command" in denied)
        if recorded:
            assert ["echo", "--password=[redacted]", "y"] == denied["command"][:3]


async def test_a_malformed_start_that_no_role_allows(pki: Path) -> None:
    """It is denied and recorded as any other: who may not start jobs learns nothing about requests."""
    async with auditing(pki) as audited:
        async with audited.served.channel("reader", codec=RawCodec()) as channel:
            with pytest.raises(GRPCError, match="requires a role"):
                await unary(channel, "/worker.v1.WorkerService/Start", b"\x0a\x7f", proto.StartResponse)
        (denied,) = audited.named(Event.DECISION)
        assert ("Start", False) == (denied["method"], denied["allowed"])
        assert [] == audited.named(Event.OUTCOME)


def test_the_records_of_a_policy() -> None:
    """A decision has the rule that allows the call, or why it is denied; a denied call has no outcome."""
    log = MemoryAuditLog()
    audit = ApiAudit(AuditTrail(log))
    start = METHODS["/worker.v1.WorkerService/Start"]
    allowed, denied = (audit.call(start, ANONYMOUS_CALLER) for _ in range(2))
    allowed.allow(proto.StartRequest(name="make"), "ci-builds")
    allowed.end()
    denied.deny("no rule allows it", proto.StartRequest(name="sh", args=["-c", "x"]))
    denied.end(ErrorReply(Status.PERMISSION_DENIED, "no rule allows it"))
    first, outcome, second = log.records
    assert (True, "ci-builds", ["make"]) == (first["allowed"], first["rule"], first["command"])
    assert (first["id"], "OK") == (outcome["id"], outcome["code"])
    assert (False, "no rule allows it", ["sh", "-c", "x"]) == (
        second["allowed"],
        second["reason"],
        second["command"],
    )
    assert_documented(log.records)


@pytest.mark.parametrize("reads", [False, True])
async def test_reads_are_recorded_on_request(pki: Path, reads: bool) -> None:  # noqa: FBT001
    """Calls that change nothing are recorded only with the setting."""
    async with auditing(pki, reads=reads) as audited:
        async with audited.served.client("reader") as client:
            await client.list()
            await client.health()
        assert (
            [("List", True), ("List", "OK"), ("Check", True), ("Check", "OK")] if reads else []
        ) == audited.calls()


async def test_a_stream(pki: Path) -> None:
    """Its begin and its end are recorded, with the bytes that were sent."""
    async with auditing(pki) as audited:
        async with audited.served.client() as client:
            job = str(await client.start(JobSpec("binary")))
            await Job(client, job).wait()
        async with audited.served.client("reader") as client:
            assert BINARY == b"".join([chunk.data async for chunk in Job(client, job).stream()])
        decision, outcome = audited.named(Event.DECISION)[-1], audited.named(Event.OUTCOME)[-1]
        assert ("Stream", job, "role:reader") == tuple(decision[each] for each in ("method", "job", "rule"))
        assert (decision["id"], "OK", len(BINARY)) == tuple(
            outcome[each] for each in ("id", "code", "sent")
        )
        assert "received" not in outcome


async def test_a_stream_that_the_client_leaves(pki: Path) -> None:
    """The outcome says so, and how much was sent until then."""
    async with auditing(pki) as audited, audited.served.client() as client:
        job = str(await client.start(JobSpec("write-and-sleep")))
        stream = Job(client, job).stream()
        assert b"12345" == (await anext(stream)).data
        await stream.aclose()
        *_, outcome = await audited.until(Event.OUTCOME, 2)
        assert ("Stream", "Canceled", 5) == tuple(outcome[each] for each in ("method", "code", "sent"))
        await Job(client, job).stop(grace=0)


async def test_an_attached_client(pki: Path) -> None:
    """It is recorded whether it writes, and how much in each direction; the session is not recorded."""
    async with auditing(pki) as audited:
        async with audited.served.client() as client:
            job = str(await client.start(JobSpec("cat", stdin=True)))
            async with attach_once(
                client, job, session="my session", output={Channel.OUTPUT: BEGINNING}
            ) as call:
                await call.write(0, b"hello", end=True)
                while await call.receive() is not None:
                    pass
        decision, outcome = audited.named(Event.DECISION)[-1], audited.named(Event.OUTCOME)[-1]
        assert ("Attach", job, True) == tuple(decision[each] for each in ("method", "job", "input"))
        assert ("OK", 5, 5) == tuple(outcome[each] for each in ("code", "sent", "received"))
        assert "my session" not in json.dumps(audited.log.records)


@pytest.mark.parametrize("refuses", [False, True], ids=["continue", "refuse"])
async def test_a_log_that_cannot_be_written(pki: Path, refuses: bool) -> None:  # noqa: FBT001
    """The setting decides about new calls; stop, remove and reads go on in any case."""
    async with auditing(pki, refuses=refuses) as audited, audited.served.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"])))
        before = len(audited.log.records)
        reason = "FailedPrecondition desc = the audit log cannot be written: No space left on device"
        audited.log.full = True
        with pytest.raises(RpcError, match=reason) if refuses else nullcontext():
            await Job(client, job).pause()
        await Job(client, job).stop(grace=0)
        await Job(client, job).remove()
        assert await client.health()
        assert not await client.health(AUDIT_SERVICE)
        assert [] == await client.list()
        audited.log.full = False
        await client.start(JobSpec("true"))
        assert await client.health(AUDIT_SERVICE)
        gap = dict(audited.log.records[before])
        assert ("records_lost", "No space left on device") == (gap["event"], gap["reason"])
        # A decision and an outcome of each call, and the end of the job. A refused call has an outcome too.
        assert 7 == gap["count"]


async def test_a_server_without_an_audit_log(pki: Path) -> None:
    """There is no such service to check."""
    async with serving(pki) as served, served.client() as client:
        with pytest.raises(RpcError, match="NotFound"):
            await client.health(AUDIT_SERVICE)


async def test_a_refused_start_runs_nothing(pki: Path) -> None:
    """A start that cannot be recorded has no job."""
    async with auditing(pki, refuses=True) as audited, audited.served.client() as client:
        audited.log.full = True
        with pytest.raises(RpcError, match="FailedPrecondition desc = the audit log cannot be written"):
            await client.start(JobSpec("true"))
        assert [] == await client.list()


async def test_a_malformed_request(pki: Path) -> None:
    """A call that changes something is recorded also if its request cannot be read."""
    async with auditing(pki) as audited:
        async with audited.served.channel(codec=RawCodec()) as channel:
            with pytest.raises(GRPCError, match="malformed"):
                await unary(channel, "/worker.v1.WorkerService/Start", b"\x0a\x7f", proto.StartResponse)
        (outcome,) = audited.named(Event.OUTCOME)
        assert ("Start", "InvalidArgument") == (outcome["method"], outcome["code"])
        assert [] == audited.named(Event.DECISION)


ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@settings(max_examples=examples(20))
@given(st.lists(st.tuples(ANYTHING, ANYTHING), min_size=1, max_size=5))
def test_clients_forge_nothing(pki: Path, texts: list[tuple[str, str]]) -> None:
    """Whatever text a client sends, each of its calls has one decision and one outcome of its own."""

    async def call() -> None:
        async with auditing(pki) as audited, audited.served.channel() as channel:
            for job, name in texts:
                start = proto.StartRequest(name=name, args=[job], user=job, env={"x" + name: job})
                for path, request, reply in (
                    ("Stop", proto.StopRequest(job_id=job), proto.StopResponse),
                    ("Start", start, proto.StartResponse),
                ):
                    with suppress(GRPCError):  # no such job, or no such command
                        await unary(channel, f"/worker.v1.WorkerService/{path}", request, reply)
            lines = b"".join(line(each) for each in audited.log.records).splitlines()
            assert len(lines) == len(audited.log.records)
            decisions = audited.named(Event.DECISION)
            assert ["Stop", "Start"] * len(texts) == [each["method"] for each in decisions]
            assert [each["id"] for each in decisions] == [
                each["id"] for each in audited.named(Event.OUTCOME)
            ]
            assert {"writer"} == {each["identity"] for each in decisions}
            assert [job for job, _ in texts] == [
                each.get("job", "") for each in decisions if each["method"] == "Stop"
            ]

    asyncio.run(call())
