"""Rotation: everything is replaced while streams and calls run, and each client is treated rightly."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from worker.api import tls
from worker.api.identity import serial_text
from worker.client.client import Client
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.model.job import Chunk, JobSpec

from ..support.authorities import Issued, TestCA, replace
from ..support.clients import impatient
from ..support.served import Served, serving

STREAMS = 20
CALLS_PER_PHASE = 5


@dataclass
class Caller:
    """A client that calls without end, over one connection and over a new one each time."""

    name: str
    context: tls.ClientContext
    calls: list[tuple[float, float, bool]] = field(default_factory=list)
    """The phase at the begin and at the end of each call, and whether it passed."""


class Rotation:
    """The files, the callers, and the phase.

    That is the number of replacements in force, and half of one more while that is not known.
    """

    def __init__(self, directory: Path, served: Served, pki: Path) -> None:
        self.directory = directory
        self.served = served
        self.pki = pki
        self.phase = 0.0
        self.callers: list[Caller] = []
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, issued: Issued) -> Caller:
        """Let a client call from now on."""
        caller = Caller(name, issued.context(self.directory / "trusted.crt", self.directory / "c", name))
        self.callers.append(caller)
        self.tasks += [
            asyncio.create_task(self._call(caller, each)) for each in (self._keep, self._connect)
        ]
        return caller

    async def _call(
        self, caller: Caller, calls: Callable[[Caller, Client], Coroutine[None, None, None]]
    ) -> None:
        while True:
            async with impatient(self.served.host, self.served.port, caller.context) as client:
                await calls(caller, client)

    async def _keep(self, caller: Caller, client: Client) -> None:
        while await self._once(caller, client):
            pass

    async def _connect(self, caller: Caller, client: Client) -> None:
        await self._once(caller, client)

    async def _once(self, caller: Caller, client: Client) -> bool:
        begin, passed = self.phase, True
        try:
            await client.list()
        except RpcError as error:
            assert "Unauthenticated" == error.code  # noqa: PT017 - whether it failed is checked later
            passed = False
        except ServerUnreachable:
            passed = False
        caller.calls.append((begin, self.phase, passed))
        await asyncio.sleep(0)
        return passed

    async def replace(self, *, works: bool = True, **files: bytes) -> None:
        """Replace files and reload; then let each client make some calls."""
        self.phase += 0.5
        for name, data in files.items():
            replace(self.pki / name.replace("_", "."), data)
        error = await self.served.server.reload_certificates()
        assert works == (error is None), error
        self.phase += 0.5
        async with asyncio.timeout(60):
            for caller in self.callers:
                while [begin for begin, _, _ in caller.calls].count(self.phase) < CALLS_PER_PHASE:
                    await asyncio.sleep(0.005)

    async def end(self) -> None:
        """End the calls; raise what a client did not expect."""
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result


def outcomes(caller: Caller) -> dict[float, set[bool]]:
    """Return whether calls passed, for each phase in which they began and ended."""
    found: dict[float, set[bool]] = {}
    for begin, end, passed in caller.calls:
        if begin == end == int(begin):
            found.setdefault(begin, set()).add(passed)
    return found


async def test_everything_is_replaced_while_streams_and_calls_run(tmp_path: Path) -> None:
    """No call that should have passed failed, and none that should have failed passed."""
    old, new = TestCA("old CA"), TestCA("new CA")
    pki = tmp_path / "pki"
    old.server().write(pki, "server")
    both = old.issued.pem + new.issued.pem
    (pki / "ca.crt").write_bytes(both)
    (tmp_path / "trusted.crt").write_bytes(both)
    revoked, denied = new.client("revoked"), new.client("denied")
    async with serving(pki, check_period=1000) as served:
        rotation = Rotation(tmp_path, served, pki)
        trusted = rotation.add("trusted", new.client("trusted"))
        others = {
            each: rotation.add(each, issued)
            for each, issued in (("revoked", revoked), ("denied", denied), ("old", old.client("old")))
        }
        async with impatient(served.host, served.port, trusted.context) as client:
            job = str(await client.start(JobSpec("write-and-sleep")))
            streams = [Job(client, job).stream() for _ in range(STREAMS)]
            assert [b"12345"] * STREAMS == [(await anext(each)).data for each in streams]
            waiting = [asyncio.create_task(anext(each, None)) for each in streams]

            renewed = new.server()
            await rotation.replace()  # 1: nothing new
            renewed.write(tmp_path / "renewed", "server")
            await rotation.replace(  # 2: the server's certificate, by another CA
                server_key=(tmp_path / "renewed" / "server.key").read_bytes(), server_crt=renewed.pem
            )
            await rotation.replace(ca_crl=new.crl([revoked]))  # 3
            await rotation.replace(denied=f"{serial_text(denied.serial)}\n".encode())  # 4
            await rotation.replace(ca_crt=b"broken", works=False)  # 5: the earlier files stay in force
            await rotation.replace(ca_crt=new.issued.pem)  # 6: without the old CA
            await rotation.replace(ca_crl=new.crl(), denied=b"")  # 7: both are accepted again

            assert not any(each.done() for each in waiting)
            await Job(client, job).stop(grace=0)
            ends: list[Chunk | None] = await asyncio.gather(*waiting)
            assert [None] * STREAMS == ends
        await rotation.end()

    everything = set(range(8))
    assert {phase: {True} for phase in everything} == outcomes(trusted)
    assert {phase for _, phase, passed in trusted.calls if not passed} == set()
    for name, refused in (("revoked", {3, 4, 5, 6}), ("denied", {4, 5, 6}), ("old", {6, 7})):
        expected = {phase: {phase not in refused} for phase in everything}
        assert expected == outcomes(others[name]), name
