"""Jobs as objects: how they are started and found, and their output."""

from contextlib import aclosing
from pathlib import Path

import pytest

from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.errors import InvalidJobSpec, JobNotFound
from worker.core.model.ending import Channel, Exited
from worker.core.model.job import JobSpec, new_job_id
from worker.core.model.stream_start import LastLines

from ..support.served import BINARY, serving


async def test_a_job_is_started_from_words_or_from_a_spec(pki: Path) -> None:
    """Both are the same; a spec has no further words."""
    async with serving(pki) as served, served.client() as client:
        words = await client.start("echo", "one", "two", labels={"a": "b"})
        spec = await client.start(JobSpec("echo", ["one", "two"], labels={"a": "b"}))
        found = [(await job.wait()).record.spec for job in (words, spec)]
        assert found[0] == found[1]
        assert "one two\n" == "".join([line async for line in words.lines()])
        with pytest.raises(TypeError, match="a JobSpec has its arguments"):
            await client.start(JobSpec("echo"), "one")
        with pytest.raises(InvalidJobSpec):
            await client.start("")
        assert 2 == len(await client.list())


async def test_a_job_that_was_started_before(pki: Path) -> None:
    """A full id needs no call; any other reference is one for the server."""
    async with serving(pki) as served, served.client() as client:
        started = await client.start("true")
        for reference in (started.id, str(started)):
            found = await client.job(reference)
            assert (started.id, str(started)) == (found.id, str(found))
        assert Exited(0) == (await found.wait()).ending
        await client.job(new_job_id())
        with pytest.raises(RpcError, match="NotFound"):
            await client.job("unknown")
        with pytest.raises(JobNotFound):
            Job(client, "unknown")


async def test_output(pki: Path) -> None:
    """All of it, of one channel, or its end."""
    async with serving(pki) as served, served.client() as client:
        assert BINARY == await (await client.start("binary")).output()
        split = await client.start("talk", split_output=True)
        assert b"err" == await split.output(channel=Channel.STDERR)
        lines = await client.start("echo", "one\ntwo")
        assert [["one\n", "two\n"], ["two\n"]] == [
            [line async for line in lines.lines()],
            [line async for line in lines.lines(start=LastLines(1))],
        ]


async def test_lines_that_are_not_read_to_the_end(pki: Path) -> None:
    """Closing them ends the call, and other calls continue."""
    async with serving(pki) as served, served.client() as client:
        job = await client.start("binary")
        async with aclosing(job.lines(longest=10)) as lines:
            assert len(await anext(lines)) <= 10
        await job.remove()
        assert [] == await client.list()
