"""The supervisor's side of the zygote: it is started, asked to clone, and started again if it dies."""

import errno
import logging
import os
import signal
import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..ipc.encoding import SpawnPlan
from ..ipc.event_loop import boottime
from .plan import ANSWER, CLONE, DROP, HOLD, MOST_HELD, SEIZE, HistoryPaths, packed, request, sealed

log = logging.getLogger(__name__)

PROGRAM = str(Path(__file__).with_name("zygote"))
"""The program; zygote.c and the other C files beside it are its source."""

PATIENCE = 10.0
"""Seconds that a zygote may take to answer, its own start included: 1 ms, and far less afterwards."""

_QUICK_DEATH = 1.0
"""A zygote that dies within these seconds after its start may die each time."""

_MOST_QUICK_DEATHS = 5
"""Quick deaths in a row after which the next zygote is started for the next job, and not at once."""

_TIMEVAL = struct.Struct("@ll")


class ZygoteDied(ConnectionResetError):
    """It is unknown whether there is a child."""


class Descriptors(NamedTuple):
    """What a child is given; the order is that of enum clone_fd in plan.h, after the plan.

    ``errors`` is the write end of a pipe: the child writes ``STAGE ERRNO`` if it fails. EOF: it has
    executed the command, or was killed.
    """

    history: int
    errors: int
    stdin: int
    stdout: int
    stderr: int


class Zygote:
    """The process that clones jobs, see zygote.c. ``lock`` is that of the generation's zygote."""

    def __init__(self, lock: Path, patience: float = PATIENCE, program: str = PROGRAM) -> None:
        self._command = program, str(lock)
        self._patience = _TIMEVAL.pack(int(patience), int(patience % 1 * 1_000_000))
        self._peer: socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._started_at = 0.0
        self._quick_deaths = 0
        self._held: dict[int, int] = {}  # slot by descriptor
        self._free: list[int] = []
        self._slots = 0

    def begin(self) -> None:
        """Start it, so that the first job does not have to wait for it."""
        try:
            self._started()
        except OSError:
            log.exception("no zygote can be started; trying again with the next job")

    def reaped(self, pid: int) -> None:
        """Start another one if this child was the zygote and has held files, unless all die at once."""
        if self._peer is None or pid != self._pid:
            return
        log.error("the zygote has died%s", ", starting another" if self._held else "")
        self._disconnect()
        quick = boottime() < self._started_at + _QUICK_DEATH
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        if self._held and self._quick_deaths < _MOST_QUICK_DEATHS:
            self.begin()

    def close(self) -> None:
        """End it, and return when it has ended: nothing is left of a supervisor that exits."""
        if self._peer is not None:
            self._kill()
            with suppress(ChildProcessError):  # it had died, and has been reaped
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)  # Linux 5.4
            self._disconnect()

    def clone(
        self, plan: SpawnPlan, paths: HistoryPaths, descriptors: Descriptors, held: Sequence[int]
    ) -> int:
        """Clone a child that executes a plan, hold these files of the job, and return the child's pid.

        OSError if the kernel cannot, ZygoteDied if the zygote died. One that does not answer, because it
        was stopped, is killed: no other job could be started, stopped or timed out meanwhile.
        """
        memory = sealed(packed(plan, paths))
        try:
            peer = self._started()
            slots = self._assign(held)
            message = request(CLONE, slots)
            try:
                socket.send_fds(peer, [message], (memory, *descriptors, *held))
            except (ConnectionError, BlockingIOError):
                raise self._death() from None
        finally:
            os.close(memory)
        try:
            answer = peer.recv(ANSWER.size)
        except OSError:
            raise self._death() from None
        if len(answer) < ANSWER.size:
            raise self._death()
        pid, error = ANSWER.unpack(answer)
        if error:
            raise OSError(error, os.strerror(error))
        return int(pid)

    def hold(self, files: Sequence[int]) -> None:
        """Hold files open, of a job that is adopted. Drop them before closing the descriptors."""
        self._assign(files)
        if self._peer is not None:
            self._send_held(files)

    def drop(self, files: Iterable[int]) -> None:
        """Stop holding files; those that are not held are ignored."""
        slots = [self._held.pop(file) for file in files if file in self._held]
        self._free += slots
        for first in range(0, len(slots), MOST_HELD):
            self._notify(request(DROP, slots[first : first + MOST_HELD]), ())

    def _assign(self, files: Iterable[int]) -> list[int]:
        """Return the slot of each file; it keeps the one that it has."""
        for file in files:
            if file not in self._held:
                if not self._free:
                    self._free.append(self._slots)
                    self._slots += 1
                self._held[file] = self._free.pop()
        return [self._held[file] for file in files]

    def _notify(self, message: bytes, descriptors: Sequence[int]) -> None:
        """Send a request without an answer."""
        if self._peer is None:
            return
        try:
            socket.send_fds(self._peer, [message], descriptors)
        except OSError:  # it has died, or is stopped; the next one gets all files
            self._abandon()

    def _send_held(self, files: Sequence[int]) -> None:
        for first in range(0, len(files), MOST_HELD):
            some = files[first : first + MOST_HELD]
            self._notify(request(HOLD, [self._held[file] for file in some]), some)

    def _started(self) -> socket.socket:
        """Return the connection to it; it ends when that is closed. OSError if it cannot be started."""
        if self._peer is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                theirs.set_inheritable(True)
                for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                    ours.setsockopt(socket.SOL_SOCKET, option, self._patience)
                program, lock = self._command
                try:
                    self._pid = os.posix_spawn(program, ["zygote", str(theirs.fileno()), lock], os.environ)
                    self._pidfd = os.pidfd_open(self._pid)
                except OSError:
                    ours.close()
                    raise
            self._peer, self._started_at = ours, boottime()
            self._send_held(list(self._held))
            self._notify(request(SEIZE, ()), ())
        if self._peer is None:  # it died at once
            raise self._death()
        return self._peer

    def _death(self) -> ZygoteDied:
        """Return the error for a zygote that has not answered; the next request starts another."""
        self._abandon()
        return ZygoteDied(errno.ECONNRESET, "the zygote died")

    def _abandon(self) -> None:
        if self._peer is not None:
            self._kill()
            self._disconnect()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # it had died, and has been reaped
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _disconnect(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None
            os.close(self._pidfd)
