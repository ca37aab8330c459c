"""The supervisor's part of a job's output: it opens the sinks and has the FIFOs recorded."""

import os
from collections.abc import Mapping

from ...core.model.channel import Channel
from ...core.ports import AppendedFile, RecordedFifo
from ..ipc.encoding import SpawnPlan
from ..recorder.client import RecorderClient


class JobOutput:
    """The sinks of one job."""

    def __init__(self, job: str, plan: SpawnPlan, recorder: RecorderClient) -> None:
        self._job = job
        self._plan = plan
        self._recorder = recorder
        self._open: dict[Channel, int] = {}

    @property
    def stdout(self) -> int:
        """The descriptor that becomes the job's stdout."""
        return self._descriptor(Channel.STDOUT)

    @property
    def stderr(self) -> int:
        """The descriptor that becomes the job's stderr."""
        return self._descriptor(Channel.STDERR)

    def _descriptor(self, channel: Channel) -> int:
        sink = self._open.get(channel, self._open.get(Channel.OUTPUT))
        assert sink is not None
        return sink

    def open(self) -> None:
        """Open the sinks: the bytes in FIFOs then outlive job and recorder. OSError if refused."""
        for channel, sink in self._plan.sinks.items():
            match sink:
                case RecordedFifo(path):
                    self._open[channel] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                case AppendedFile(path):
                    self._open[channel] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def record(self) -> None:
        """Have the recorder record the FIFOs."""
        if recorded := self._plan.recorded:
            self._recorder.record(self._job, recorded, [self._open[channel] for channel in recorded])

    def drain(self) -> bool:
        """Have the recorder record the rest: no process has the FIFOs open for writing any more.

        Return whether there is a FIFO: if not, the output is complete.
        """
        if self._plan.recorded:
            self._recorder.drain(self._job)
        return bool(self._plan.recorded)

    def appended_sizes(self) -> Mapping[Channel, int]:
        """Return how many bytes the job has appended to files."""
        return {
            channel: max(0, os.fstat(self._open[channel]).st_size - sink.start)
            for channel, sink in self._plan.sinks.items()
            if isinstance(sink, AppendedFile)
        }

    def discard(self) -> None:
        """Stop recording a job that never ran, or cannot be adopted."""
        if self._plan.recorded:
            self._recorder.drop(self._job)

    def close(self) -> None:
        """Close the sinks. Idempotent."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
