"""Run commands on a Linux machine from elsewhere, safely.

These names are those of ``worker.client`` and ``worker.core``, loaded on first use (PEP 562): this module
runs before every ``worker.*`` import, also in the supervisor and the recorder, which must stay small.
"""

__all__ = [
    "Client",
    "ClientError",
    "Job",
    "JobId",
    "JobSpec",
    "JobState",
    "JobStatus",
    "ResourceLimits",
    "RpcError",
    "ServerUnreachable",
    "SettingsError",
    "Worker",
    "WorkerError",
    "connect",
]

_OF_CLIENT = {"Client", "ClientError", "Job", "RpcError", "ServerUnreachable", "SettingsError", "connect"}

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from .client import Client as Client
    from .client import ClientError as ClientError
    from .client import Job as Job
    from .client import RpcError as RpcError
    from .client import ServerUnreachable as ServerUnreachable
    from .client import SettingsError as SettingsError
    from .client import connect as connect
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
        if name in _OF_CLIENT:
            from . import client as package  # noqa: PLC0415 - only when a name is used
        else:
            from . import core as package  # noqa: PLC0415

        return getattr(package, name)
