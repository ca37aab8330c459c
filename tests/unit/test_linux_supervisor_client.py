"""The server's connection to a supervisor: invalid messages, and its end."""

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


async def test_an_invalid_message_closes_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pending calls fail, and the reason is logged."""
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

    async with await asyncio.start_unix_server(supervise, tmp_path / "socket"):
        client = SupervisorClient(tmp_path, take, lambda: lost.append("once"))
        assert await client.connect()
        with pytest.raises(SupervisorGone):
            await client.call("list")
        await client.close()
    assert ["once"] == lost
    assert "invalid message from the supervisor; disconnecting" in caplog.text


async def test_a_call_after_the_connection_was_closed(tmp_path: Path) -> None:
    """A call fails after on_lost was called, not before: a retry then finds the next supervisor."""
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
