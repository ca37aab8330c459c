"""Run commands on a Linux machine from elsewhere, safely.

These names are those of ``worker.core``, loaded on first use (PEP 562): this module runs before every
``worker.*`` import, also in the supervisor and the recorder, which must stay small.
"""

__all__ = [
    "JobId",
    "JobSpec",
    "JobState",
    "JobStatus",
    "ResourceLimits",
    "Worker",
    "WorkerError",
]

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from .core import JobId as JobId
    from .core import JobSpec as JobSpec
    from .core import JobState as JobState
    from .core import JobStatus as JobStatus
    from .core import ResourceLimits as ResourceLimits
    from .core import Worker as Worker
    from .core import WorkerError as WorkerError
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import core  # noqa: PLC0415 - only when a name is used

        return getattr(core, name)
