"""The supervisor's part of a job's output: it opens the sinks, and has the FIFOs held and recorded."""

import errno
import os
from collections.abc import Mapping

from ...core.model.channel import Channel
from ...core.ports import AppendedFile, RecordedFifo
from ..ipc.encoding import SpawnPlan
from ..recorder.client import RecorderClient
from ..zygote.client import Zygote


class JobOutput:
    """The sinks of one job.

    A FIFO is held O_RDWR: a read-only end would have POLLHUP forever once the job's last process has
    closed it. The job gets write-only ends: programs take a readable stdout for a closed pipe.
    """

    def __init__(self, job: str, plan: SpawnPlan, recorder: RecorderClient, zygote: Zygote) -> None:
        self._job = job
        self._plan = plan
        self._recorder = recorder
        self._zygote = zygote
        self._open: dict[Channel, int] = {}

    def hold(self) -> None:
        """Open the sinks: the bytes in FIFOs then outlive job and recorder. OSError if refused."""
        for channel, sink in self._plan.sinks.items():
            match sink:
                case RecordedFifo(path):
                    self._open[channel] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                case AppendedFile(path):
                    self._open[channel] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    @property
    def fifos(self) -> list[int]:
        """The descriptors of the FIFOs."""
        return [self._open[channel] for channel in self._plan.recorded]

    def open_end(self, channel: Channel) -> int:
        """Open the descriptor that becomes the job's stdout or stderr. OSError if refused.

        Each has an open file description of its own: O_NONBLOCK on one does not affect the other.
        """
        sink = self._plan.sinks.get(channel) or self._plan.sinks[Channel.OUTPUT]
        match sink:
            case RecordedFifo(path):  # does not block: we hold it for reading
                return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            case AppendedFile(path):
                return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        raise OSError(errno.EINVAL, f"no sink of kind {sink.kind} can be opened")

    def record(self, terminal: int | None) -> None:
        """Have the recorder record the FIFOs, and what the job writes to the terminal with this master."""
        if recorded := self._plan.recorded:
            self._recorder.record(self._job, recorded, self.fifos, terminal=terminal)

    def drain(self, *, discard: bool) -> bool:
        """Have the recorder record the rest: no process has the FIFOs open for writing any more.

        ``discard``: not what cannot be recorded. Return whether there is a FIFO: if not, the output is
        complete.
        """
        if self._plan.recorded:
            self._recorder.drain(self._job, discard=discard)
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
        """Close the sinks, and have the zygote drop the FIFOs. Idempotent."""
        self._zygote.drop(self._open.values())
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
