"""The supervisor's side of the zygote: it is started, asked for children, and started again if it dies."""

import errno
import logging
import marshal
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass

from ..ipc.encoding import SpawnPlan
from ..zygote import ANSWER, LENGTH, Request

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a zygote may take to answer, its own start included: 50 ms, and far less afterwards."""

_TIMEVAL = struct.Struct("@ll")

_ENVIRONMENT = {**os.environ, "LD_BIND_NOW": "1"}
"""Of a zygote: what ld.so(8) binds at its start it need not bind anew in each child."""


class ZygoteDied(ConnectionResetError):
    """Nobody knows whether there is a child; if there is, it ends by itself, for nobody lets it go."""


@dataclass(frozen=True, slots=True)
class Newborn:
    """A child that waits: a byte into ``release`` lets it go, EOF there ends it.

    ``errors`` tells why it could not be executed, as ``stage errno``; EOF: it was.
    """

    pid: int
    release: int
    errors: int


class Zygote:
    """The process that bears jobs, see linux/zygote.py."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = _TIMEVAL.pack(int(patience), int(patience % 1 * 1_000_000))
        self._peer: socket.socket | None = None
        self._pidfd = -1

    def begin(self) -> None:
        """Start it, so that the first job does not have to wait for it."""
        try:
            self._started()
        except OSError:
            log.exception("no zygote can be started; trying again with the next job")

    def close(self) -> None:
        """End it, and return when it has ended: nothing is left of a supervisor that leaves."""
        if self._peer is not None:
            self._kill()
            with suppress(ChildProcessError):  # it had died, and has been reaped
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
            self._let_go()

    def bear(self, plan: SpawnPlan, stdout: int, stderr: int, history: int) -> Newborn:
        """Have a child for a plan; OSError if the kernel cannot, ZygoteDied if it died meanwhile.

        One that does not answer, because somebody has stopped it, is killed: nobody else could be
        served, stopped or timed out meanwhile.
        """
        release_read, release_write = os.pipe2(os.O_CLOEXEC)
        try:
            error_read, error_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            os.close(release_read)
            os.close(release_write)
            raise
        try:
            pid = self._ask(_request(plan), [release_read, error_write, stdout, stderr, history])
        except OSError:
            os.close(release_write)
            os.close(error_read)
            raise
        finally:
            os.close(release_read)
            os.close(error_write)
        return Newborn(pid, release_write, error_read)

    def _ask(self, request: bytes, descriptors: list[int]) -> int:
        """Return the pid of a child."""
        peer = self._started()
        try:
            sent = socket.send_fds(peer, [request], descriptors)
            peer.sendall(memoryview(request)[sent:])
            answer = peer.recv(ANSWER.size, socket.MSG_WAITALL)
            if len(answer) < ANSWER.size:
                raise ConnectionResetError
        except (ConnectionError, BlockingIOError):
            self._abandon()
            raise ZygoteDied(errno.ECONNRESET, "the zygote died") from None
        except OSError:  # it may have got half of the request
            self._abandon()
            raise
        pid, error = ANSWER.unpack(answer)
        if error:
            raise OSError(error, os.strerror(error))
        return int(pid)

    def _started(self) -> socket.socket:
        """Return the connection to it; it ends when that is closed."""
        if self._peer is None:
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.set_inheritable(True)
                arguments = [sys.executable, "-P", "-m", "worker.linux.zygote", str(theirs.fileno())]
                for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                    ours.setsockopt(socket.SOL_SOCKET, option, self._patience)
                try:
                    self._pidfd = os.pidfd_open(os.posix_spawn(sys.executable, arguments, _ENVIRONMENT))
                except OSError:
                    ours.close()
                    raise
            self._peer = ours
        return self._peer

    def _abandon(self) -> None:
        self._kill()
        self._let_go()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # it had died, and has been reaped
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _let_go(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None
            os.close(self._pidfd)


def _request(plan: SpawnPlan) -> bytes:
    user = None if plan.uid is None or plan.gid is None else (plan.uid, plan.gid, plan.groups)
    argv = tuple(argument.encode() for argument in plan.argv)
    env = {name.encode(): value.encode() for name, value in plan.env.items()}
    command = argv, env, plan.working_directory.encode(), user
    request: Request = plan.placement.unified, plan.placement.legacy, command
    body = marshal.dumps(request)
    return LENGTH.pack(len(body)) + body
