"""The ports: protocols that adapters implement.

Every adapter must pass the contract suite of its port in ``worker.core.testing``.
"""

from .journal import Clock as Clock
from .journal import JobJournal as JobJournal
from .limiting import Placement as Placement
from .limiting import PlacementKind as PlacementKind
from .limiting import ResourceLimiter as ResourceLimiter
from .limiting import Scope as Scope
from .output import AppendedFile as AppendedFile
from .output import InProcessSink as InProcessSink
from .output import OutputStore as OutputStore
from .output import RecordedFifo as RecordedFifo
from .output import Sink as Sink
from .output import SinkKind as SinkKind
from .output import TimedOutputStore as TimedOutputStore
from .output import Watch as Watch
from .spawning import BoundingSpawner as BoundingSpawner
from .spawning import InteractiveProcess as InteractiveProcess
from .spawning import PausableProcess as PausableProcess
from .spawning import Process as Process
from .spawning import ProcessSpawner as ProcessSpawner
from .spawning import Progress as Progress
from .spawning import SecretSpawner as SecretSpawner
from .spawning import SignalableProcess as SignalableProcess
from .spawning import Survivor as Survivor
from .spawning import TerminalProcess as TerminalProcess
