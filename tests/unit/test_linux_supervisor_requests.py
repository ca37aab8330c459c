"""Requests to a supervisor that no server of this version sends, and what a failed start leaves."""

import errno
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from worker.core.steps import Step, reached
from worker.linux.ipc.connection import MessageConnection
from worker.linux.ipc.encoding import plan_to_message
from worker.linux.ipc.event_loop import Loop
from worker.linux.ipc.framing import Decoder, Message
from worker.linux.recorder.client import RecorderClient
from worker.linux.state.layout import Layout
from worker.linux.supervisor.inspection import Inspection
from worker.linux.supervisor.job import Services
from worker.linux.supervisor.job_table import JobTable
from worker.linux.supervisor.requests import RequestServer
from worker.linux.supervisor.retried_writes import RetriedWrites
from worker.linux.supervisor.takeover import Takeover
from worker.linux.zygote.client import Zygote

from ..support.plans import plan

JOB = "82a94e14-d386-47af-9004-53fa3ec7e195"


@dataclass
class Served:
    """The requests of a supervisor, and a connection to it."""

    requests: RequestServer
    inspection: Inspection
    connection: MessageConnection
    server: socket.socket

    def call(self, do: str, **arguments: object) -> Message:
        """Return the answer to a request."""
        self.requests.serve(self.connection, {"call": 1, "do": do, **arguments})
        self.server.settimeout(1.0)
        (answer,) = Decoder().feed(self.server.recv(65536))
        return answer


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A supervisor without its own process."""
    layout, loop, writes = Layout(tmp_path), Loop(), RetriedWrites()
    layout.make()
    recorder = RecorderClient(loop, tmp_path / "lock", lambda *_: None, lambda *_: None, lambda *_: None)
    services = Services("g", loop, Zygote(tmp_path / "zygote.lock"), recorder, writes)
    table = JobTable(layout, services)
    inspection = Inspection(table, writes)
    takeover = Takeover(layout, "g", table)
    requests = RequestServer(loop, table, takeover, inspection, recorder, services.zygote)
    ours, theirs = socket.socketpair()
    connection = MessageConnection(loop, ours, requests.serve, lambda _: None)
    with theirs:
        yield Served(requests, inspection, connection, theirs)
        connection.close()
    recorder.close()


@pytest.mark.parametrize(("level", "form"), [("trace", "text"), ("info", "xml")])
def test_log_settings_of_a_newer_server(served: Served, level: str, form: str) -> None:
    """A level or format that is unknown here changes nothing, and the server gets its answer."""
    before = logging.getLogger().handlers[:]
    assert {"call": 1} == served.call("log", level=level, format=form)
    assert before == logging.getLogger().handlers


def test_a_failed_start_leaves_no_step(served: Served, tmp_path: Path) -> None:
    """A supervisor may see any number of failed starts; it remembers none of them."""
    reached(Step.CLONED, JOB)
    assert {JOB: Step.CLONED} == served.inspection.last_steps
    answer = served.call("spawn", job=JOB, plan=plan_to_message(plan(), str(tmp_path)))
    assert {"call": 1, "failed": "clone", "errno": errno.ENOENT} == answer
    assert {} == served.inspection.last_steps


def test_a_size_that_comes_too_late(served: Served) -> None:
    """A job that has ended has no terminal, so nothing is to be done; other requests are refused."""
    assert {"call": 1} == served.call("resize", job=JOB, rows=24, columns=80)
    assert {"call": 1, "refused": "the process is already finished"} == served.call("pause", job=JOB)


def test_forget_several_jobs(served: Served, tmp_path: Path) -> None:
    """The files of each are deleted, also of jobs that this supervisor does not know."""
    jobs = [JOB, "00000000-0000-4000-8000-000000000001"]
    for job in jobs:
        directory = tmp_path / "jobs" / job
        directory.mkdir()
        for name in ("output.fifo", "history", "output-0"):
            (directory / name).touch()
    assert {"call": 1} == served.call("forget", jobs=jobs)
    for job in jobs:
        assert ["output-0"] == [path.name for path in (tmp_path / "jobs" / job).iterdir()]
    assert "unknown request" == served.call("nothing", jobs=jobs)["error"]
