"""The steps of a job's life by name, so that a test can have a process die at any of them.

Each is reached right after the fact that it names; what the dead process knew is lost there.
"""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """In the order of a job's life; in brackets who takes the step."""

    # The start.
    INTENT_JOURNALED = "intent-journaled"  # [server]
    CGROUP_MADE = "cgroup-made"  # [server]
    FIFO_MADE = "fifo-made"  # [server]
    CLONED = "cloned"  # [zygote], then [supervisor] the child waits
    RECORDED = "recorded"  # [supervisor] which process it is
    RELEASED = "released"  # [supervisor] the child may execute the command
    EXECUTED = "executed"  # [supervisor] the command runs
    REPORTED = "reported"  # [supervisor] to the server that asked
    STARTED = "started"  # [server] and the client not told yet
    TOLD = "told"  # [server] the client has its answer; to any call but streams

    # The output.
    SEGMENT_MADE = "segment-made"  # [recorder] and opened, or found
    SEGMENT_DROPPED = "segment-dropped"  # [recorder] the oldest, beyond the bound
    SPLICED = "spliced"  # [recorder] some bytes are in the segment
    DRAINED_TOLD = "drained-told"  # [recorder] to the supervisor

    # The end.
    MAIN_EXIT_SEEN = "main-exit-seen"  # [supervisor] the main process is a zombie
    MAIN_EXIT_RECORDED = "main-exit-recorded"  # [supervisor]
    REAPED = "reaped"  # [supervisor] any child
    LEFTOVERS_GONE = "leftovers-gone"  # [supervisor] no process is left
    DRAINED = "drained"  # [supervisor] all output is recorded
    EXIT_RECORDED = "exit-recorded"  # [supervisor]
    ANNOUNCED = "announced"  # [supervisor] to the servers
    END_HEARD = "end-heard"  # [server]
    JOURNALED = "journaled"  # [server] the end is
    CGROUP_REMOVED = "cgroup-removed"  # [server]
    FORGOTTEN = "forgotten"  # [supervisor], then [server]
    UNJOURNALED = "unjournaled"  # [server] the job is being removed
    OUTPUT_REMOVED = "output-removed"  # [server]

    # The life of those who take the steps.
    RECOVERED = "recovered"  # [server] it knows the jobs of an earlier one
    ADOPTED = "adopted"  # [supervisor] a job of an earlier one
    RETIRED = "retired"  # [supervisor] it leaves, for it has nobody to serve


StepHook = Callable[[Step, object], None]

_hooks: tuple[StepHook, ...] = ()


def add_step_hook(hook: StepHook) -> None:
    """Call ``hook`` with every step that this process takes, before the hooks that were added earlier."""
    global _hooks  # noqa: PLW0603 - steps are taken everywhere; to pass it to all would cost more
    _hooks = (hook, *_hooks)


def remove_step_hook(hook: StepHook) -> None:
    """Stop calling a hook. Idempotent."""
    global _hooks  # noqa: PLW0603 - see above
    _hooks = tuple(each for each in _hooks if each is not hook)


def reached(step: Step, job: object = "") -> None:
    """Report that a step was taken, for the job with this id; empty: the step belongs to no single job."""
    for hook in _hooks:
        hook(step, job)
