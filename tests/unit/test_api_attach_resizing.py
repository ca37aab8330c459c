"""The size of a terminal over Attach: before the input, only of the writer, and over lost connections."""

import asyncio
from pathlib import Path

import pytest

from worker.client.errors import RpcError
from worker.client.job import Job
from worker.client.window import Window
from worker.core.model.ending import Channel
from worker.core.model.input import InputState
from worker.core.model.job import JobId, JobSpec
from worker.core.model.stream_start import BEGINNING
from worker.core.model.terminal import WindowSize

from ..support.attaching import Attached, Typed, attach_once
from ..support.restarted import Machine, Wire, serving

AT_FIRST, NOW, LATER = WindowSize(24, 80), WindowSize(31, 97), WindowSize(50, 132)
JOB = JobSpec("cat", stdin=True, terminal=AT_FIRST)
ALL = {Channel.OUTPUT: BEGINNING}


async def has_had(machine: Machine, job: JobId, *sizes: WindowSize) -> None:
    """Wait until the terminal of a job has had exactly these sizes."""
    while (had := machine.spawner.sizes(job)) != list(sizes):
        assert had == list(sizes[: len(had)])
        await asyncio.sleep(0.01)


async def test_requests_are_served_in_their_order(pki: Path) -> None:
    """The size changes once the job has taken the input before."""
    async with serving(pki) as machine, machine.client() as client:
        job = (await client.start(JOB)).id
        machine.spawner.pause_reading(job)
        async with attach_once(client, job, session="", output={}) as call:
            await call.write(0, b"before")
            await call.resize(NOW)
            await call.leave()
            await machine.worker.query(job)
            await has_had(machine, job, AT_FIRST)
            machine.spawner.resume_reading(job)
            while await call.receive() is not None:
                pass
        await has_had(machine, job, AT_FIRST, NOW)


async def test_a_watcher_has_no_size(pki: Path) -> None:
    """Only the writer can change it."""
    async with serving(pki) as machine, machine.client() as client:
        job = (await client.start(JOB)).id
        with pytest.raises(RpcError, match="the call was opened without `input`"):  # noqa: PT012
            async with attach_once(client, job, output=ALL) as call:
                await call.resize(NOW)
                while await call.receive() is not None:
                    pass
        await has_had(machine, job, AT_FIRST)


async def test_a_job_without_stdin(pki: Path) -> None:
    """Any client that attaches can change the size; the call ends with the job."""
    async with serving(pki) as machine, machine.client() as client:
        job = (await client.start(JobSpec("sleep", ["1000"], terminal=AT_FIRST))).id
        window = Window(NOW)
        attached = asyncio.ensure_future(Attached().all_of(Job(client, job).attach(window=window)))
        await has_had(machine, job, AT_FIRST, NOW)
        window.change(LATER)
        await has_had(machine, job, AT_FIRST, NOW, LATER)
        machine.spawner.kill(job, 9)
        await attached


async def test_a_replaced_writer_has_no_size(pki: Path) -> None:
    """Once a new connection of its session writes, a late change of the old one is refused."""
    async with serving(pki) as machine, machine.client() as client:
        job = (await client.start(JOB)).id
        with pytest.raises(RpcError, match="another client writes to the stdin"):  # noqa: PT012
            async with attach_once(client, job, session="mine", output={}) as lost:
                async with attach_once(client, job, session="mine", output={}) as call:
                    assert InputState() == call.input
                await lost.resize(NOW)
                while await lost.receive() is not None:
                    pass
        await has_had(machine, job, AT_FIRST)


async def test_a_job_that_has_ended(pki: Path) -> None:
    """A change of the size that comes too late is no error."""
    async with serving(pki) as machine, machine.client() as client:
        job = (await client.start(JOB)).id
        async with attach_once(client, job, session="", output=ALL) as call:
            machine.spawner.kill(job)
            await Job(client, job).wait()
            await call.resize(NOW)
            while (event := await call.receive()) is not None:
                state = event
        assert isinstance(state, InputState)
        assert "the job has ended" == state.closed


async def test_the_size_is_sent_first_and_after_each_change(pki: Path) -> None:
    """Input follows the size at present; a size that is the same is sent once."""
    async with serving(pki) as machine, machine.client() as client:
        job = (await client.start(JOB)).id
        window, typed = Window(NOW), Typed(b"key")
        events = Job(client, job).attach(read=typed.read, output=ALL, window=window)
        attached = asyncio.ensure_future(Attached().all_of(events))
        await has_had(machine, job, AT_FIRST, NOW)
        window.change(LATER)
        await has_had(machine, job, AT_FIRST, NOW, LATER)
        while not machine.outputs.sink(job).data:
            await asyncio.sleep(0.01)
        machine.spawner.kill(job, 9)
        assert b"key" == (await attached).output[Channel.OUTPUT]


async def test_a_screen_is_drawn_again(pki: Path) -> None:
    """An attached client first sends another size, because the same one is not signalled."""
    async with serving(pki) as machine, machine.client() as client:
        for size, other in ((NOW, WindowSize(30, 97)), (WindowSize(1, 5), WindowSize(2, 5))):
            job = (await client.start(JOB)).id
            window, typed = Window(size, redraws=True), Typed()
            events = Job(client, job).attach(read=typed.read, window=window)
            attached = asyncio.ensure_future(Attached().all_of(events))
            await has_had(machine, job, AT_FIRST, other, size)
            machine.spawner.kill(job, 9)
            await attached


async def test_an_unknown_size_is_not_sent(pki: Path) -> None:
    """The terminal of the job keeps its size until the size is known."""
    async with serving(pki) as machine, machine.client() as client:
        job = (await client.start(JOB)).id
        window, typed = Window(WindowSize(), redraws=True), Typed(b"key")
        events = Job(client, job).attach(read=typed.read, window=window)
        attached = asyncio.ensure_future(Attached().all_of(events))
        window.change(WindowSize())
        while not machine.outputs.sink(job).data:
            await asyncio.sleep(0.01)
        await has_had(machine, job, AT_FIRST)
        window.change(NOW)
        await has_had(machine, job, AT_FIRST, NOW)
        machine.spawner.kill(job, 9)
        await attached


async def test_the_size_is_sent_again_after_a_lost_connection(pki: Path) -> None:
    """A change while the server was away is not lost; the screen is not drawn twice."""
    async with serving(pki) as machine:
        wire = Wire(machine.port)
        async with wire.open() as machine.port, machine.client() as client:
            job = (await client.start(JOB)).id
            window, typed = Window(NOW, redraws=True), Typed()
            events = Job(client, job).attach(read=typed.read, window=window)
            attached = asyncio.ensure_future(Attached().all_of(events))
            odd = WindowSize(30, 97)
            await has_had(machine, job, AT_FIRST, odd, NOW)
            with wire.broken():
                window.change(LATER)
                while len(machine.notices) < 1:
                    await asyncio.sleep(0.01)
            await has_had(machine, job, AT_FIRST, odd, NOW, LATER)
            machine.spawner.kill(job, 9)
            await attached


async def test_a_client_that_leaves(pki: Path) -> None:
    """If `read` returns None, all input before is accepted, and the input stays open."""
    async with serving(pki) as machine, machine.client() as client:
        job = str(await client.start(JobSpec("cat", stdin=True)))
        pieces: list[bytes | None] = [b"one", None, b"two", b""]

        async def read() -> bytes | None:
            return pieces.pop(0)

        for expected in (InputState(3), InputState(6, ended=True)):
            states = [each async for each in Job(client, job).attach(read=read)]
            assert isinstance(states[-1], InputState)
            assert (expected.accepted, expected.ended) == (states[-1].accepted, states[-1].ended)
