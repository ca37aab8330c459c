"""Queries a supervisor about one job, without asyncio and with a short timeout."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ipc.framing import BadMessage, Decoder, encode
from ..ipc.unix_sockets import connect

TIMEOUT = 2.0
"""Seconds to wait for the answer, which takes a millisecond unless the supervisor is stopped."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is no answer."""

    reason: str


def inspect(generation: Path, job: str) -> Mapping[str, Any] | NoAnswer:
    """Return what the supervisor in a generation's directory knows about a job."""
    try:
        with connect(generation, "socket", TIMEOUT) as peer:
            peer.sendall(encode({"call": 1, "do": "inspect", "job": job}))
            answer = _receive(peer)
    except TimeoutError:
        return NoAnswer(f"it has not answered for {TIMEOUT:g} s")
    except (OSError, BadMessage) as error:
        return NoAnswer(f"it cannot be reached: {error}")
    if "error" in answer:
        return NoAnswer("it is of an older version, which does not support this request")
    if "state" not in answer:
        return NoAnswer("it does not know the job")
    return answer


def _receive(peer: socket.socket) -> Mapping[str, Any]:
    decoder = Decoder()
    while data := peer.recv(65536):
        for message in decoder.feed(data):
            if message.get("call") == 1:
                return message
    raise ConnectionResetError("it closed the connection")
