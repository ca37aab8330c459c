"""The digest that identifies a generation: of the code that its processes execute."""

import hashlib
from functools import cache
from pathlib import Path

MODULES = (
    "__init__.py",
    "core/__init__.py",
    "core/errors.py",
    "core/lifecycle.py",
    "core/lifecycle_events.py",
    "core/model/__init__.py",
    "core/model/channel.py",
    "core/model/client_id.py",
    "core/model/ending.py",
    "core/model/execution.py",
    "core/model/input.py",
    "core/model/job.py",
    "core/model/job_name.py",
    "core/model/limits.py",
    "core/model/terminal.py",
    "core/model/text.py",
    "core/model/ulimits.py",
    "core/ports/__init__.py",
    "core/ports/journal.py",
    "core/ports/limiting.py",
    "core/ports/output.py",
    "core/ports/spawning.py",
    "core/steps.py",
    "core/termination.py",
    "linux/__init__.py",
    "linux/crash_points.py",
    "linux/ipc/__init__.py",
    "linux/ipc/connection.py",
    "linux/ipc/dataclass_messages.py",
    "linux/ipc/encoding.py",
    "linux/ipc/event_loop.py",
    "linux/ipc/framing.py",
    "linux/ipc/unix_sockets.py",
    "linux/kernel/__init__.py",
    "linux/kernel/cgroup_tree.py",
    "linux/kernel/kernel_files.py",
    "linux/kernel/locks.py",
    "linux/kernel/procfs.py",
    "linux/kernel/rlimits.py",
    "linux/kernel/slow_disk.py",
    "linux/kernel/splice.py",
    "linux/kernel/syscalls.py",
    "linux/logs/__init__.py",
    "linux/logs/handler.py",
    "linux/logs/lines.py",
    "linux/recorder/__init__.py",
    "linux/recorder/__main__.py",
    "linux/recorder/channel_recording.py",
    "linux/recorder/client.py",
    "linux/recorder/input_feed.py",
    "linux/recorder/job_recording.py",
    "linux/recorder/output_bound.py",
    "linux/recorder/protocol.py",
    "linux/recorder/recorder.py",
    "linux/recorder/segments.py",
    "linux/recorder/shared_offsets.py",
    "linux/recorder/terminal_relay.py",
    "linux/recorder/time_index.py",
    "linux/state/__init__.py",
    "linux/state/credentials.py",
    "linux/state/generations.py",
    "linux/state/history.py",
    "linux/state/job_directory.py",
    "linux/state/layout.py",
    "linux/state/reserve.py",
    "linux/state/time_entries.py",
    "linux/supervisor/__init__.py",
    "linux/supervisor/__main__.py",
    "linux/supervisor/freezer.py",
    "linux/supervisor/inspection.py",
    "linux/supervisor/job.py",
    "linux/supervisor/job_input.py",
    "linux/supervisor/job_output.py",
    "linux/supervisor/job_processes.py",
    "linux/supervisor/job_signals.py",
    "linux/supervisor/job_start.py",
    "linux/supervisor/job_streams.py",
    "linux/supervisor/job_table.py",
    "linux/supervisor/job_terminal.py",
    "linux/supervisor/left_files.py",
    "linux/supervisor/leftovers_watch.py",
    "linux/supervisor/orphaned_jobs.py",
    "linux/supervisor/orphaned_process.py",
    "linux/supervisor/requests.py",
    "linux/supervisor/retried_writes.py",
    "linux/supervisor/supervisor.py",
    "linux/supervisor/takeover.py",
    "linux/supervisor/wait_status.py",
    "linux/zygote/__init__.py",
    "linux/zygote/client.py",
    "linux/zygote/plan.py",
)
"""Every module that supervisor, recorder and zygote import, relative to the package ``worker``, sorted.

Without one of them, two builds that behave differently would share a supervisor; with another one, a
change that cannot matter would start a second supervisor. A test compares the list with the imports.
"""

ZYGOTE = "linux/zygote/zygote"
"""The program that clones jobs."""


@cache
def this_generation() -> str:
    """Return the generation of the code on disk; builds with the same version number differ in it.

    FileNotFoundError without the zygote: a clone whose package was not installed since it has one.
    """
    root = Path(__file__).parent.parent.parent
    if not (root / ZYGOTE).exists():
        raise FileNotFoundError(
            f"{root / ZYGOTE} is missing: install the package again (in a clone: pip install --editable .)"
        )
    digest = hashlib.sha256()
    for file in (*MODULES, ZYGOTE):
        digest.update((root / file).read_bytes())
    return digest.hexdigest()[:12]
