"""The answer of a supervisor to `worker debug`: the state of one job."""

from ...core.ports import Progress
from ...core.steps import Step, add_step_hook
from ..ipc.encoding import progress_to_message
from ..ipc.framing import Message
from .job_table import JobTable
from .retried_writes import RetriedWrites


class Inspection:
    """Remembers the last step of each job, and describes a job."""

    def __init__(self, table: JobTable, writes: RetriedWrites) -> None:
        self._table = table
        self._writes = writes
        self.last_steps: dict[str, Step] = {}
        """The last step of each job that the supervisor knows."""
        add_step_hook(self._remember)

    def describe(self, name: str) -> Message:
        """Return the state of a job; nothing if it is unknown.

        ``deadline`` in seconds of CLOCK_BOOTTIME is when ``next_signal`` is sent; both are None if no
        signal is due. ``unwritten`` counts the history records of all jobs that the disk has refused.
        """
        job = self._table.running.get(name)
        ended = self._table.ended_jobs.get(name)
        if job is not None:
            progress, deadline, next_signal = job.progress, job.life.deadline, job.life.next_signal
        elif ended is not None:
            progress, deadline, next_signal = Progress.at_end(ended.end), None, None
        else:
            return {}
        return {
            **progress_to_message(progress),
            "step": self.last_steps.get(name, ""),
            "deadline": deadline,
            "next_signal": next_signal,
            "unwritten": self._writes.pending,
            "write_error": self._writes.refusal,
        }

    def drop(self, name: str) -> None:
        """Forget the last step of a job. Idempotent."""
        self.last_steps.pop(name, None)

    def _remember(self, step: Step, job: object) -> None:
        name = str(job)
        if step is Step.FORGOTTEN:
            self.drop(name)
        elif name:
            self.last_steps[name] = step
