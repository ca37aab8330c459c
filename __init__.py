"""Run commands on a Linux machine from elsewhere, safely.

The names below are handed on lazily (PEP 562): this module runs before every
``worker.*`` import, also that of the supervisor, which must stay small.
"""

TYPE_CHECKING = (
    False  # as in typing, which would take half a megabyte in a process as small as the recorder
)
if TYPE_CHECKING:
    from .core.errors import WorkerError as WorkerError
    from .core.model.job import JobId as JobId
    from .core.model.job import JobSpec as JobSpec
    from .core.model.job import JobState as JobState
    from .core.model.job import JobStatus as JobStatus
    from .core.model.limits import ResourceLimits as ResourceLimits
    from .core.worker import Worker as Worker

__all__ = [
    "JobId",
    "JobSpec",
    "JobState",
    "JobStatus",
    "ResourceLimits",
    "Worker",
    "WorkerError",
]

_HOME = {
    "JobId": "model.job",
    "JobSpec": "model.job",
    "JobState": "model.job",
    "JobStatus": "model.job",
    "ResourceLimits": "model.limits",
    "Worker": "worker",
    "WorkerError": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f".core.{_HOME[name]}", __name__), name)
