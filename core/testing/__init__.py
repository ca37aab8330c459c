"""Public fakes of the ports, and the contract suites that fakes and real adapters must pass."""

from .audit_log_contract import AuditLogBench as AuditLogBench
from .audit_log_contract import AuditLogContract as AuditLogContract
from .fake_limiter import FakeLimiter as FakeLimiter
from .fake_machine import FakeMachine as FakeMachine
from .fake_spawner import PROGRAMS as PROGRAMS
from .fake_spawner import FakeProcess as FakeProcess
from .fake_spawner import FakeProgram as FakeProgram
from .fake_spawner import FakeSpawner as FakeSpawner
from .journal_contract import JournalContract as JournalContract
from .killable_worker import KillableWorker as KillableWorker
from .limiter_contract import LimiterContract as LimiterContract
from .manual_clock import ManualClock as ManualClock
from .memory_audit_log import MemoryAuditLog as MemoryAuditLog
from .memory_outputs import MemoryOutputStore as MemoryOutputStore
from .memory_outputs import MemorySink as MemorySink
from .memory_outputs import MemoryWatch as MemoryWatch
from .output_store_contract import OutputBench as OutputBench
from .output_store_contract import OutputStoreContract as OutputStoreContract
from .spawner_contract import SpawnerBench as SpawnerBench
from .spawner_contract import SpawnerContract as SpawnerContract
