"""The server's part of a job's input: appends it to the spool, from which the recorder feeds the job."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...core.errors import SpawnerUnavailable, StorageUnavailable
from ...core.model.input import JOB_HAS_ENDED, InputState
from ..kernel.syscalls import punch_hole
from ..state.job_directory import spool_path, writer_path
from ..state.reserve import NO_SPACE

log = logging.getLogger(__name__)

_MOST_UNREAD = 1 << 20
"""Bytes in the spool that the recorder has not moved yet; more wait for the job to read."""

_KEPT = 8 << 20
"""Bytes before the position that stay in the file.

splice(2) moves pages by reference, and a hole within a large folio zeroes it: what is in pipes must not be
in a hole. A pipe has at most 1 MiB by default (pipe(7)), and a job may splice from one to the next.
"""

_ASK_INTERVAL = 1.0
"""Seconds without a report after which a writer that waits asks for one."""

_RETRY_INTERVAL = 0.2
"""Seconds between attempts to store input on a full disk."""

Report = Mapping[str, Any]


class SpooledInput:
    """Accepts input while at most _MOST_UNREAD bytes wait for the job.

    ``request`` announces to the supervisor that there is more input, or where it ends, and returns its
    report.
    """

    def __init__(self, directory: str, request: Callable[[int | None], Awaitable[Report | None]]) -> None:
        self._path = spool_path(directory)
        self._writer_path = writer_path(directory)
        self._request = request
        self._file = -1
        self._state = InputState()
        self._position = 0
        self._hole = 0
        self._full = False
        self._lost = ""
        self._kept, self._freed_at_once = _KEPT, _MOST_UNREAD
        self._announced = 0
        self._announcing: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._writing = asyncio.Lock()

    async def state(self) -> InputState:
        """Return how much was accepted so far."""
        self._open()
        return self._state

    async def set_writer(self, writer: str) -> None:
        """Record who writes from now on; wait for space if the disk is full."""
        async with self._writing:
            self._open()
            while not self._state.closed and self._state.writer != writer:
                try:
                    _record_writer(self._writer_path, writer)
                except OSError as error:
                    await self._wait_for_space(error)
                    continue
                self._state = replace(self._state, writer=writer)

    async def write(self, offset: int, data: bytes) -> InputState:
        """Accept bytes, as InteractiveProcess.write_input; wait for space if the disk is full."""
        async with self._writing:
            self._open()
            while not self._state.closed and (new := self._state.new_bytes(offset, data)):
                self._check_lost()
                room = _MOST_UNREAD - (self._state.accepted - self._position)
                if room <= 0:
                    await self._wait_for_room()
                    continue
                try:
                    self._append(new[:room])
                except OSError as error:
                    await self._wait_for_space(error)
                    continue
                self._announce()
            return self._state

    async def end(self, offset: int) -> InputState:
        """End the input, as InteractiveProcess.end_input."""
        async with self._writing:
            self._open()
            if not self._state.closed:
                self._state.check_end(offset)
                self.apply(await self._request(offset))
            return self._state

    def apply(self, report: Report | None) -> None:
        """Apply what the supervisor reports; None: the job has ended, which it reports separately."""
        if report is None:
            return
        self._position = report["position"]
        self._state = replace(
            self._state,
            ended=report["end"] is not None,
            closed=self._state.closed or report["closed"],
        )
        self._lost = report["lost"]
        if report.get("typed"):  # by write(2); what was typed, such as passwords, is erased at once
            self._kept, self._freed_at_once = 0, 1
        self._moved.set()
        self._free()

    def resume(self) -> None:
        """Announce what a server has accepted that died before it could announce it."""
        with suppress(StorageUnavailable):  # deleted meanwhile: the job has ended
            self._open()
        if self._state.accepted > self._position:
            self._announce()

    def close(self) -> None:
        """Accept no more: the job has ended. Idempotent."""
        self._state = replace(self._state, closed=self._state.closed or JOB_HAS_ENDED)
        self._moved.set()
        if self._announcing is not None:
            self._announcing.cancel()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _announce(self) -> None:
        """Announce what was added, with one request at a time for all of it."""
        if self._announcing is None:
            self._announcing = asyncio.create_task(self._announce_all())

    async def _announce_all(self) -> None:
        try:
            while self._announced < self._state.accepted and not self._state.closed:
                self._announced = self._state.accepted
                self.apply(await self._request(None))
        except SpawnerUnavailable:
            self._announced = 0  # the next write announces it again
            log.exception("input was accepted, but no supervisor is available")
        finally:
            self._announcing = None

    def _check_lost(self) -> None:
        if self._lost:
            raise StorageUnavailable(self._lost)

    def _open(self) -> None:
        self._check_lost()
        if self._file < 0 and not self._state.closed:
            try:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            except OSError as error:
                raise StorageUnavailable(f"the input cannot be stored: {error.strerror}") from error
            self._state = replace(
                self._state,
                accepted=os.fstat(self._file).st_size,
                writer=_recorded_writer(self._writer_path),
            )

    async def _wait_for_room(self) -> None:
        """Wait until the job has read some; ask from time to time: a dead supervisor reports nothing."""
        self._moved.clear()
        try:
            async with asyncio.timeout(_ASK_INTERVAL):
                await self._moved.wait()
        except TimeoutError:
            self._announced = 0
            self._announce()

    async def _wait_for_space(self, error: OSError) -> None:
        """Wait a moment if the disk is full: the client waits, as a job does for its output."""
        if error.errno not in NO_SPACE:
            raise StorageUnavailable(f"the input cannot be stored: {error.strerror}") from error
        if not self._full:
            log.warning("%s: input cannot be stored, retrying: %s", self._path, error.strerror)
        self._full = True
        await asyncio.sleep(_RETRY_INTERVAL)

    def _append(self, data: bytes) -> None:
        written = os.pwrite(self._file, data, self._state.accepted)
        self._full = False
        self._state = replace(self._state, accepted=self._state.accepted + written)

    def _free(self) -> None:
        """Free the disk space of what the job has read, in large pieces."""
        end = self._position - self._kept
        if self._file >= 0 and end - self._hole >= self._freed_at_once:
            with suppress(OSError):  # a file system without holes: the space is freed with the job
                punch_hole(self._file, self._hole, end - self._hole)
            self._hole = end


def _record_writer(path: str, writer: str) -> None:
    """Write a line in one system call: a server that dies leaves the old line or the new one."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(file, f"{writer}\n".encode(), 0)  # what is left behind a shorter line is not read
    finally:
        os.close(file)


def _recorded_writer(path: str) -> str:
    """Return the writer that was recorded, empty if none was."""
    try:
        with open(path) as file:
            return file.readline().rstrip("\n")
    except FileNotFoundError:
        return ""
