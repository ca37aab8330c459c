"""The standard streams of one job: its sinks, its input, and its terminal if it has one."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...core.model.channel import Channel
from ..ipc.encoding import SpawnPlan
from ..recorder.client import RecorderClient
from ..zygote.client import Zygote
from .job_input import JobInput
from .job_output import JobOutput
from .job_terminal import JobTerminal
from .left_files import LeftFiles


class JobStreams:
    """All of them are opened, held and closed together."""

    def __init__(
        self, job: str, directory: str, plan: SpawnPlan, recorder: RecorderClient, zygote: Zygote
    ) -> None:
        self.output = JobOutput(job, plan, recorder, zygote)
        self.input = JobInput(job, directory, recorder, zygote, wanted=plan.spec.stdin)
        self.terminal = JobTerminal(plan, zygote)
        self._zygote = zygote

    def create(self) -> None:
        """Open the sinks, and make the rest. OSError if refused."""
        self.output.hold()
        self.terminal.create()
        self.input.create(self.terminal.master)

    @property
    def held(self) -> list[int]:
        """The descriptors that the zygote holds too."""
        return [*self.output.fifos, *self.input.held, *self.terminal.held]

    @contextmanager
    def ends(self) -> Iterator[tuple[int, int, int]]:
        """Open the descriptors that become the job's stdin, stdout and stderr. OSError if refused."""
        if self.terminal.wanted:
            yield self.terminal.slave, self.terminal.slave, self.terminal.slave
            return
        with ExitStack() as opened:

            def closed_afterwards(end: int) -> int:
                opened.callback(os.close, end)
                return end

            yield (
                closed_afterwards(self.input.open_end()),
                closed_afterwards(self.output.open_end(Channel.STDOUT)),
                closed_afterwards(self.output.open_end(Channel.STDERR)),
            )

    def record(self) -> None:
        """Have the recorder record the output."""
        self.output.record(self.terminal.master if self.terminal.held else None)

    def hold(self) -> None:
        """Hold the FIFOs of a job to adopt, before their other holders are stopped. OSError if refused."""
        self.output.hold()
        if not self.terminal.wanted:
            self.input.hold()

    def adopt(self, left: LeftFiles, input_end: int | None) -> None:
        """Continue with what the helpers of a dead supervisor have left. OSError if refused."""
        self._zygote.hold(self.output.fifos)
        self.terminal.adopt(left.master)
        self.record()
        self.input.adopt(left.spool, input_end, self.terminal)

    def discard(self) -> None:
        """Stop recording a job that never ran, and delete the files of its input."""
        self.output.discard()
        self.input.discard()

    def close(self) -> None:
        """Close everything. Idempotent."""
        self.output.close()
        self.input.close()
        self.terminal.close()
