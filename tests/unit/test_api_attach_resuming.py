"""Attachments over lost connections and restarted servers: each byte once, in both directions."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.client.errors import InputFailed, RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.errors import InputTaken
from worker.core.model.ending import Channel
from worker.core.model.input import InputState
from worker.core.model.job import JobId, JobSpec, JobState
from worker.core.model.stream_start import BEGINNING, FromOffset
from worker.core.worker import Worker

from ..support.attaching import Attached, Typed
from ..support.examples import examples
from ..support.restarted import Machine, Wire, serving

CAT = JobSpec("cat", stdin=True)
ALL = {Channel.OUTPUT: BEGINNING}


def recorded(machine: Machine, job: object) -> bytes:
    """Return all output of a job."""
    [found] = [each for each in machine.outputs.jobs if str(each) == str(job)]
    return bytes(machine.outputs.sink(found).data)


pieces = st.lists(st.binary(min_size=1, max_size=20) | st.integers(1, 200_000).map(bytes), max_size=8)


@settings(max_examples=examples(30), deadline=None)
# At most four breaks in a row: a client raises the error of the fifth call that fails at once.
@given(
    pieces=pieces,
    budgets=st.lists(st.integers(1, 5_000) | st.integers(1, 300_000), max_size=3),
    echoed=st.booleans(),
)
async def test_at_whichever_byte_connections_break(
    pki: Path, pieces: list[bytes], budgets: list[int], *, echoed: bool
) -> None:
    """Whichever answers are lost, the job reads each byte of the input once, and the client its output."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            job = str(await client.start(CAT))
            wire.cut(budgets)
            typed = Typed(*pieces, ended=True)
            attached = Attached({Channel.OUTPUT: 0})
            await attached.all_of(Job(client, job).attach(read=typed.read, output=ALL if echoed else {}))
            whole = b"".join(pieces)
            assert JobState.EXITED is (await Job(client, job).wait()).state
            assert whole == recorded(server, job)
            if echoed:
                assert whole == attached.output.get(Channel.OUTPUT, b"")


@settings(max_examples=examples(15), deadline=None)
@given(steps=st.lists(st.sampled_from(["type", "cut", "restart", "pause", "resume"]), max_size=12))
async def test_sessions_that_last(pki: Path, steps: list[str]) -> None:
    """In whichever order input, lost connections, restarts and pauses of the job come, no byte is lost."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            job = (await client.start(CAT)).id
            typed, attached = Typed(), Attached({Channel.OUTPUT: 0})
            running = asyncio.ensure_future(
                attached.all_of(Job(client, job).attach(read=typed.read, output=ALL))
            )
            whole = b""
            for number, step in enumerate(steps):
                match step:
                    case "type":
                        piece = bytes([number]) * 10_000 * (number + 1)
                        typed.type(piece)
                        whole += piece
                    case "cut":
                        wire.cut([])
                    case "restart":
                        await server.down()
                        await server.up()
                        wire.forward_to(server)
                    case "pause":
                        server.spawner.pause_reading(job)
                    case "resume":
                        server.spawner.resume_reading(job)
                assert JobState.RUNNING is (await client.query(str(job))).state
            server.spawner.resume_reading(job)
            typed.end()
            await running
            assert whole == recorded(server, job)
            assert whole == attached.output.get(Channel.OUTPUT, b"")
            assert (len(whole), True) == (attached.input.accepted, attached.input.ended)


async def test_a_shutdown_while_the_job_does_not_read(pki: Path) -> None:
    """What the server has not accepted is sent to the next server."""
    async with serving(pki) as server, server.client() as client:
        job = (await client.start(CAT)).id
        server.spawner.pause_reading(job)
        typed = Typed(*[b"0123456789" * 10_000] * 10, ended=True)
        running = asyncio.ensure_future(Attached().all_of(Job(client, job).attach(read=typed.read)))
        while not typed.size:
            assert await client.health()
        await server.down()
        await server.up()
        server.spawner.resume_reading(job)
        state = (await running).input
        assert (1_000_000, True) == (state.accepted, state.ended)
        assert b"0123456789" * 100_000 == recorded(server, job)


async def test_a_job_that_ends_while_the_server_is_away(pki: Path) -> None:
    """The client gets the rest of the output, and reads no more input."""
    async with serving(pki) as server, server.client() as client:
        job = (await client.start(CAT)).id
        typed, attached = Typed(b"one"), Attached({Channel.OUTPUT: 0})
        running = asyncio.ensure_future(
            attached.all_of(Job(client, job).attach(read=typed.read, output=ALL))
        )
        while attached.output != {Channel.OUTPUT: b"one"}:
            assert await client.health()
        await server.down()
        server.outputs.sink(job).write(b"last words")
        server.spawner.kill(job, 9)
        await server.worker.wait(job)
        await server.up()
        await running
        assert {Channel.OUTPUT: b"onelast words"} == attached.output
        assert "the process is already finished" == attached.input.closed


async def test_another_writer_came_between(pki: Path) -> None:
    """The client does not take the input of another client for its own."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            job = (await client.start(CAT)).id
            attached = Attached()
            running = asyncio.ensure_future(
                attached.all_of(Job(client, job).attach(read=Typed(b"one").read))
            )
            while attached.input != InputState(3):
                assert await client.health()
            with wire.broken():
                await write(server.worker, job, b"two")
            with pytest.raises(RpcError, match="Aborted desc = another client has written to the stdin"):
                await running
        assert b"onetwo" == recorded(server, job)


@pytest.mark.parametrize("ends", [False, True])
async def test_another_writer_came_between_over_a_new_server(pki: Path, *, ends: bool) -> None:
    """Also if the other client has written less than this one had sent, to a server that knows neither."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client() as client:
            job = (await client.start(CAT)).id
            server.spawner.pause_reading(job)
            typed = Typed(b"one", b"much more than the other client writes")
            running = asyncio.ensure_future(
                Attached().all_of(Job(client, job).attach(read=typed.read, session="mine"))
            )
            while not typed.size:
                assert await client.health()
            with wire.broken():
                await server.down()
                server.spawner.resume_reading(job)
                await server.up()
                await write(server.worker, job, b"two", ends=ends)
                wire.forward_to(server)
            with pytest.raises(RpcError, match="Aborted desc = another client has written to the stdin"):
                await running
        assert b"two" == recorded(server, job)


async def test_the_input_of_a_job_that_the_client_has_started(pki: Path) -> None:
    """A session begins at byte 0, continues in another attachment, and is not taken for that of others."""
    async with serving(pki) as server, server.client() as client:
        job, other = (await client.start(CAT)).id, (await client.start(CAT)).id
        await write(server.worker, other, b"x")
        for input_ in (Typed(b"one"), Typed(b"onetwo", ended=True)):
            attached = Attached()
            running = asyncio.ensure_future(
                attached.all_of(Job(client, job).attach(read=input_.read, session="mine"))
            )
            while attached.input.accepted < input_.size or not input_.size:
                assert await client.health()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert b"onetwo" == recorded(server, job)
        with pytest.raises(RpcError, match="Aborted"):
            await Attached().all_of(Job(client, other).attach(read=Typed(b"x").read, session="mine"))


async def write(worker: Worker, job: JobId, data: bytes, *, ends: bool = False) -> None:
    """Write to the stdin of a job as soon as no other client does."""
    while True:
        with suppress(InputTaken):
            async with worker.attach_input(job) as writer:
                state = await writer.write((await writer.state()).accepted, data)
                if ends:
                    await writer.end(state.accepted)
                return
        await asyncio.sleep(0)


async def test_input_that_cannot_be_read(pki: Path) -> None:
    """The client raises the reason; the input is not ended: the job must not take it for complete."""
    pieces = [b"one"]

    async def read() -> bytes:
        if pieces:
            return pieces.pop()
        while not server.outputs.sink(job).data:
            await asyncio.sleep(0)
        raise OSError(5, "Input/output error")

    async with serving(pki) as server, server.client() as client:
        job = (await client.start(CAT)).id
        with pytest.raises(InputFailed) as caught:
            await Attached().all_of(Job(client, job).attach(read=read, output=ALL))
        assert "[Errno 5] Input/output error" == str(caught.value.__cause__)
        await write(server.worker, job, b"more")
        assert b"onemore" == recorded(server, job)
        assert [] == server.notices


async def test_a_cancelled_attachment(pki: Path) -> None:
    """It leaves nothing behind, and the input open."""
    async with serving(pki) as server, server.client() as client:
        job = (await client.start(CAT)).id
        typed, attached = Typed(b"one"), Attached()
        running = asyncio.ensure_future(attached.all_of(Job(client, job).attach(read=typed.read)))
        while attached.input != InputState(3):
            assert await client.health()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        typed.type(b"two", b"")
        await attached.all_of(Job(client, job).attach(read=typed.read))
        assert b"onetwo" == recorded(server, job)


async def test_a_watcher_resumes(pki: Path) -> None:
    """Output is continued at its offset, from wherever it was begun."""
    async with serving(pki) as server, server.client() as client:
        job = (await client.start(JobSpec("write-and-sleep"))).id
        attached = Attached({Channel.OUTPUT: 2})
        running = asyncio.ensure_future(
            attached.all_of(Job(client, job).attach(output={Channel.OUTPUT: FromOffset(2)}))
        )
        while attached.output != {Channel.OUTPUT: b"345"}:
            assert await client.health()
        await server.down()
        server.outputs.sink(job, Channel.OUTPUT).write(b"67")
        await server.up()
        await Job(client, job).stop()
        await running
        assert {Channel.OUTPUT: b"34567"} == attached.output


async def test_a_refusal_is_final(pki: Path) -> None:
    """Only lost connections and UNAVAILABLE are repeated."""
    async with serving(pki) as server:
        async with server.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
            with pytest.raises(RpcError, match="was started without an open stdin"):
                await Attached().all_of(Job(client, job).attach(read=Typed().read))
        assert (1, []) == (server.connections, server.notices)


async def test_no_patience(pki: Path) -> None:
    """The error of the lost connection is raised."""
    async with serving(pki) as server:
        wire = Wire(server.port)
        async with wire.open() as server.port, server.client(patience=0) as client:
            job = str(await client.start(CAT))
            attached = Attached()
            running = asyncio.ensure_future(attached.all_of(Job(client, job).attach(read=Typed(b"x").read)))
            while attached.input != InputState(1):
                assert await client.health()
            wire.cut([])
            with pytest.raises(ServerUnreachable):
                await running
