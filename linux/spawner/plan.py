"""What the supervisor is to do for a job, with every name resolved."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from ...core.errors import AccessDenied, InvalidJobSpec
from ...core.model.channel import Channel
from ...core.model.execution import DEFAULT_PATH
from ...core.model.job import JobId, JobSpec
from ...core.ports import Placement, RecordedFifo, Sink
from ..ipc.encoding import SpawnPlan
from ..state.credentials import VARIABLE
from .users import Account


class NoNewPrivs(StrEnum):
    """Which jobs run with no_new_privs: prctl(2).

    AUTO: those whose user the worker changes, unless they request new privileges. sudo(8) and
    newuidmap(1) go on working in the jobs of a worker that does not run as root.
    """

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    def applies(self, spec: JobSpec, who: Account) -> bool:
        """Whether it applies to a job; AccessDenied if the job requests what no job may have."""
        if self is NoNewPrivs.ALWAYS and spec.new_privileges:
            raise AccessDenied("no job of this server may get new privileges (no_new_privs = always)")
        wanted = who.is_another_user and not spec.new_privileges
        return self is NoNewPrivs.ALWAYS or (self is NoNewPrivs.AUTO and wanted)


def spawn_plan(
    job: JobId,
    spec: JobSpec,
    placement: Placement,
    sinks: Mapping[Channel, Sink],
    who: Account,
    no_new_privs: NoNewPrivs,
    credentials: str = "",
) -> SpawnPlan:
    """Return the plan of a job; AccessDenied as ``NoNewPrivs.applies``.

    ``credentials`` is the directory with its secrets, if it has any.
    InvalidJobSpec for a terminal if the output store does not take the output from a FIFO.
    """
    if spec.terminal is not None and not all(isinstance(sink, RecordedFifo) for sink in sinks.values()):
        raise InvalidJobSpec("terminal", "the output store of this server cannot record one")
    environment = {
        "PATH": DEFAULT_PATH if spec.execution is None else spec.execution.search_path,
        "HOME": who.home,
        "USER": who.name,
        "LOGNAME": who.name,
        "LANG": "C.UTF-8",
        **spec.env,
        **({VARIABLE: credentials} if credentials else {}),
        "WORKER_JOB_ID": str(job),  # last: without cgroups it identifies the job's processes
    }
    return SpawnPlan(
        replace(spec, env=environment),
        who.uid,
        who.gid,
        who.groups,
        placement,
        sinks,
        no_new_privs.applies(spec, who),
    )
