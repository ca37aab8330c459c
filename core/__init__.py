"""The domain: values, life cycle of a job, ports and the Worker. No I/O, no environment.

Every public name can be imported from here. The names are loaded on first use (PEP 562), because this
module runs before every ``worker.core.*`` import, also in the supervisor and the recorder.
"""

MODULES = {
    "audit.record": (
        "AuditRecord",
        "Event",
    ),
    "audit.redaction": ("Redaction",),
    "audit.trail": ("AuditTrail",),
    "engine.defaults": (
        "MemoryJournal",
        "SystemClock",
    ),
    "engine.job_bounds": ("JobBounds",),
    "engine.retention": ("Retention",),
    "errors": (
        "AccessDenied",
        "ActionRefused",
        "AmbiguousJob",
        "AuditUnavailable",
        "HostUnresponsive",
        "IncompatibleAdapters",
        "InputMisplaced",
        "InputInterrupted",
        "InputTaken",
        "InvalidJobSpec",
        "JobAlreadyFinished",
        "JobHidden",
        "JobNameTaken",
        "JobNotFound",
        "JobStillRunning",
        "JobUnreadable",
        "JournalUnusable",
        "LimitBelowUsage",
        "LimitsRejected",
        "LimitsUnsupported",
        "NoOutputKept",
        "OutputUnavailable",
        "QuotaExceeded",
        "RequestIdReused",
        "SpawnFailed",
        "SpawnerUnavailable",
        "StopIncomplete",
        "StorageUnavailable",
        "TimesNotKept",
        "WorkerError",
    ),
    "model.channel": ("Channel",),
    "model.client_id": ("ClientId",),
    "model.ending": (
        "Cause",
        "End",
        "Ending",
        "Exited",
        "Lost",
        "Signaled",
        "exit_code",
    ),
    "model.execution": ("DEFAULT_PATH", "Execution"),
    "model.grant": ("Grant", "RunningJobs"),
    "model.input": ("InputState",),
    "model.job": (
        "Chunk",
        "Extent",
        "JobId",
        "JobRecord",
        "JobSpec",
        "JobState",
        "JobStatus",
        "Leftovers",
        "PastRequest",
        "Stamp",
        "job_ids_among",
        "new_job_id",
        "parse_job_id",
    ),
    "model.limits": (
        "CpuLimit",
        "IoLimit",
        "LimitBounds",
        "MemoryLimit",
        "Pressure",
        "ResourceLimits",
        "ResourceUsage",
    ),
    "model.selection": ("EVERY_JOB", "JobSelection", "Position"),
    "model.stream_start": (
        "BEGINNING",
        "FromOffset",
        "LastBytes",
        "LastLines",
        "StreamStart",
    ),
    "model.terminal": ("WindowSize",),
    "model.stream_times": (
        "ANY_TIME",
        "StreamTimes",
    ),
    "model.ulimits": ("Ulimit",),
    "ports": (
        "AppendedFile",
        "BoundingSpawner",
        "Clock",
        "InProcessSink",
        "InteractiveProcess",
        "JobJournal",
        "OutputStore",
        "PausableProcess",
        "Placement",
        "PlacementKind",
        "Process",
        "ProcessSpawner",
        "Progress",
        "RecordedFifo",
        "ResourceLimiter",
        "Scope",
        "SecretSpawner",
        "SignalableProcess",
        "Sink",
        "SinkKind",
        "Survivor",
        "TerminalProcess",
        "TimedOutputStore",
        "Watch",
    ),
    "ports.audit": ("AuditLog",),
    "worker": ("Worker",),
}
"""The public names, by module; the imports below repeat them for type checkers."""

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from .audit.record import AuditRecord as AuditRecord
    from .audit.record import Event as Event
    from .audit.redaction import Redaction as Redaction
    from .audit.trail import AuditTrail as AuditTrail
    from .engine.defaults import MemoryJournal as MemoryJournal
    from .engine.defaults import SystemClock as SystemClock
    from .engine.job_bounds import JobBounds as JobBounds
    from .engine.retention import Retention as Retention
    from .errors import AccessDenied as AccessDenied
    from .errors import ActionRefused as ActionRefused
    from .errors import AmbiguousJob as AmbiguousJob
    from .errors import AuditUnavailable as AuditUnavailable
    from .errors import HostUnresponsive as HostUnresponsive
    from .errors import IncompatibleAdapters as IncompatibleAdapters
    from .errors import InputInterrupted as InputInterrupted
    from .errors import InputMisplaced as InputMisplaced
    from .errors import InputTaken as InputTaken
    from .errors import InvalidJobSpec as InvalidJobSpec
    from .errors import JobAlreadyFinished as JobAlreadyFinished
    from .errors import JobHidden as JobHidden
    from .errors import JobNameTaken as JobNameTaken
    from .errors import JobNotFound as JobNotFound
    from .errors import JobStillRunning as JobStillRunning
    from .errors import JobUnreadable as JobUnreadable
    from .errors import JournalUnusable as JournalUnusable
    from .errors import LimitBelowUsage as LimitBelowUsage
    from .errors import LimitsRejected as LimitsRejected
    from .errors import LimitsUnsupported as LimitsUnsupported
    from .errors import NoOutputKept as NoOutputKept
    from .errors import OutputUnavailable as OutputUnavailable
    from .errors import QuotaExceeded as QuotaExceeded
    from .errors import RequestIdReused as RequestIdReused
    from .errors import SpawnerUnavailable as SpawnerUnavailable
    from .errors import SpawnFailed as SpawnFailed
    from .errors import StopIncomplete as StopIncomplete
    from .errors import StorageUnavailable as StorageUnavailable
    from .errors import TimesNotKept as TimesNotKept
    from .errors import WorkerError as WorkerError
    from .model.channel import Channel as Channel
    from .model.client_id import ClientId as ClientId
    from .model.ending import Cause as Cause
    from .model.ending import End as End
    from .model.ending import Ending as Ending
    from .model.ending import Exited as Exited
    from .model.ending import Lost as Lost
    from .model.ending import Signaled as Signaled
    from .model.ending import exit_code as exit_code
    from .model.execution import DEFAULT_PATH as DEFAULT_PATH
    from .model.execution import Execution as Execution
    from .model.grant import Grant as Grant
    from .model.grant import RunningJobs as RunningJobs
    from .model.input import InputState as InputState
    from .model.job import Chunk as Chunk
    from .model.job import Extent as Extent
    from .model.job import JobId as JobId
    from .model.job import JobRecord as JobRecord
    from .model.job import JobSpec as JobSpec
    from .model.job import JobState as JobState
    from .model.job import JobStatus as JobStatus
    from .model.job import Leftovers as Leftovers
    from .model.job import PastRequest as PastRequest
    from .model.job import Stamp as Stamp
    from .model.job import job_ids_among as job_ids_among
    from .model.job import new_job_id as new_job_id
    from .model.job import parse_job_id as parse_job_id
    from .model.limits import CpuLimit as CpuLimit
    from .model.limits import IoLimit as IoLimit
    from .model.limits import LimitBounds as LimitBounds
    from .model.limits import MemoryLimit as MemoryLimit
    from .model.limits import Pressure as Pressure
    from .model.limits import ResourceLimits as ResourceLimits
    from .model.limits import ResourceUsage as ResourceUsage
    from .model.selection import EVERY_JOB as EVERY_JOB
    from .model.selection import JobSelection as JobSelection
    from .model.selection import Position as Position
    from .model.stream_start import BEGINNING as BEGINNING
    from .model.stream_start import FromOffset as FromOffset
    from .model.stream_start import LastBytes as LastBytes
    from .model.stream_start import LastLines as LastLines
    from .model.stream_start import StreamStart as StreamStart
    from .model.stream_times import ANY_TIME as ANY_TIME
    from .model.stream_times import StreamTimes as StreamTimes
    from .model.terminal import WindowSize as WindowSize
    from .model.ulimits import Ulimit as Ulimit
    from .ports import AppendedFile as AppendedFile
    from .ports import BoundingSpawner as BoundingSpawner
    from .ports import Clock as Clock
    from .ports import InProcessSink as InProcessSink
    from .ports import InteractiveProcess as InteractiveProcess
    from .ports import JobJournal as JobJournal
    from .ports import OutputStore as OutputStore
    from .ports import PausableProcess as PausableProcess
    from .ports import Placement as Placement
    from .ports import PlacementKind as PlacementKind
    from .ports import Process as Process
    from .ports import ProcessSpawner as ProcessSpawner
    from .ports import Progress as Progress
    from .ports import RecordedFifo as RecordedFifo
    from .ports import ResourceLimiter as ResourceLimiter
    from .ports import Scope as Scope
    from .ports import SecretSpawner as SecretSpawner
    from .ports import SignalableProcess as SignalableProcess
    from .ports import Sink as Sink
    from .ports import SinkKind as SinkKind
    from .ports import Survivor as Survivor
    from .ports import TerminalProcess as TerminalProcess
    from .ports import TimedOutputStore as TimedOutputStore
    from .ports import Watch as Watch
    from .ports.audit import AuditLog as AuditLog
    from .worker import Worker as Worker
else:
    _MODULE_OF = {name: module for module, names in MODULES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - only when a name is used

        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
