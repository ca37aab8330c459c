"""The server's line to a supervisor, at its ends."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from worker.linux.ipc.framing import (
    PROTOCOL,
    Decoder,
    Message,
    encode,
)
from worker.linux.spawner.supervisor_client import SupervisorClient, SupervisorGone


def test_what_cannot_be_understood_ends_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for an answer learns that none will come, and the log says why."""
    lost: list[str] = []

    async def supervise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder()
        while data := await reader.read(1000):
            for message in decoder.feed(data):
                if message["do"] == "hello":
                    writer.write(encode({"call": message["call"], "protocol": PROTOCOL}))
                else:
                    writer.write(encode({"job": "nonsense"}))
        writer.close()

    def take(message: Message) -> None:
        UUID(str(message["job"]))

    async def scenario() -> None:
        async with await asyncio.start_unix_server(supervise, tmp_path / "socket"):
            client = SupervisorClient(tmp_path, take, lambda: lost.append("once"))
            assert await client.connect()
            with pytest.raises(SupervisorGone):
                await client.call("list")
            await client.close()

    asyncio.run(scenario())
    assert ["once"] == lost
    assert "invalid message from the supervisor; disconnecting" in caplog.text


async def test_who_calls_at_the_end_of_the_conversation(tmp_path: Path) -> None:
    """A call fails once the loss has been told, and not before: who tries again finds the next."""
    lost: list[str] = []

    async def supervise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (hello,) = Decoder().feed(await reader.read(1000))
        writer.write(encode({"call": hello["call"], "protocol": PROTOCOL}))
        writer.close()

    async with await asyncio.start_unix_server(supervise, tmp_path / "socket"):
        client = SupervisorClient(tmp_path, lost.append, lambda: lost.append("once"))
        assert await client.connect()
        transport = client._transport
        assert transport is not None
        transport.close()  # as asyncio does itself when the other side has closed
        assert [] == lost
        with pytest.raises(SupervisorGone):
            await client.call("list")
        assert ["once"] == lost
