"""The supervisor's part of a job's output: it holds the FIFOs open and has them recorded."""

import os

from ...core.model.channel import Channel
from ..ipc.encoding import SpawnPlan
from ..recorder.client import RecorderClient
from ..state.job_directory import fifo_path


class JobOutput:
    """The FIFOs of one job."""

    def __init__(self, job: str, directory: str, plan: SpawnPlan, recorder: RecorderClient) -> None:
        self._job = job
        self._directory = directory
        self._plan = plan
        self._recorder = recorder
        self._fifos: dict[Channel, int] = {}

    @property
    def stdout(self) -> int:
        """The descriptor that becomes the job's stdout."""
        return self._descriptor(Channel.STDOUT)

    @property
    def stderr(self) -> int:
        """The descriptor that becomes the job's stderr."""
        return self._descriptor(Channel.STDERR)

    def _descriptor(self, channel: Channel) -> int:
        fifo = self._fifos.get(channel, self._fifos.get(Channel.OUTPUT))
        assert fifo is not None
        return fifo

    def open(self) -> None:
        """Open the FIFOs: the bytes in them then outlive job and recorder. OSError if refused."""
        for channel in self._plan.channels:
            path = fifo_path(self._directory, channel)
            self._fifos[channel] = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def record(self) -> None:
        """Have the recorder record the FIFOs."""
        self._recorder.record(self._job, self._directory, self._plan, self._fifos.values())

    def drain(self) -> None:
        """Have the recorder record the rest: no process has the FIFOs open for writing any more."""
        self._recorder.finish(self._job)

    def discard(self) -> None:
        """Stop recording a job that never ran, or cannot be adopted."""
        self._recorder.drop(self._job)

    def close(self) -> None:
        """Close the FIFOs. Idempotent."""
        for fd in self._fifos.values():
            os.close(fd)
        self._fifos.clear()
