"""The steps in the life of a job, by name: each is logged, and a test can kill a process at any of them.

A step is reported right after it was taken. What only the killed process knew is then lost.
"""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """In the order of a job's life; the comment has the process that takes the step."""

    # The start.
    INTENT_JOURNALED = "intent-journaled"  # server
    CGROUP_MADE = "cgroup-made"  # server
    FIFO_MADE = "fifo-made"  # server
    HISTORY_MADE = "history-made"  # supervisor: the history has all but the process
    CLONED = "cloned"  # zygote, then supervisor
    JOINED = "joined"  # child: it is in its cgroups
    WRITTEN = "written"  # child: it has written its pid into the history
    RECORDED = "recorded"  # child: the history has its final name
    PREPARED = "prepared"  # child: its next step is the exec
    EXECUTED = "executed"  # supervisor: the command runs
    REPORTED = "reported"  # supervisor: the reply to the server is sent
    STARTED = "started"  # server: before the client has its reply
    ANSWERED = "answered"  # server: the client has the reply to any call except streams

    # The output.
    SEGMENT_MADE = "segment-made"  # recorder: a segment is created, or an existing one opened
    SEGMENT_DROPPED = "segment-dropped"  # recorder: the oldest segment, beyond the bound
    TIME_NOTED = "time-noted"  # recorder: the index has the time of bytes that are not yet in the segment
    SPLICED = "spliced"  # recorder: some bytes are in the segment
    INPUT_SPLICED = "input-spliced"  # recorder: some bytes are in the FIFO that the job reads
    TYPING = "typing"  # recorder: it is about to write some bytes to the terminal of the job
    RELAYED = "relayed"  # recorder: some bytes that the job wrote to its terminal are in the FIFO
    DRAIN_REPORTED = "drain-reported"  # recorder: to the supervisor

    # The end.
    TERMINATION_RECORDED = "termination-recorded"  # supervisor: which signals are sent, before they are
    SIGNALED = "signaled"  # supervisor: one of these signals was sent
    MAIN_EXIT_SEEN = "main-exit-seen"  # supervisor: the main process is a zombie
    MAIN_EXIT_RECORDED = "main-exit-recorded"  # supervisor
    REAPED = "reaped"  # supervisor: any child
    ALL_ENDED = "all-ended"  # supervisor: no process of the job remains
    DRAINED = "drained"  # supervisor: all output is recorded
    EXIT_RECORDED = "exit-recorded"  # supervisor
    ANNOUNCED = "announced"  # supervisor: the end is sent to the servers
    END_RECEIVED = "end-received"  # server
    JOURNALED = "journaled"  # server: the end is in the journal
    CGROUP_REMOVED = "cgroup-removed"  # server
    FORGOTTEN = "forgotten"  # supervisor, then server
    UNJOURNALED = "unjournaled"  # server: the record of a removed job is deleted
    OUTPUT_REMOVED = "output-removed"  # server

    # The processes that take the steps.
    RECOVERED = "recovered"  # server: it has recovered the jobs of a previous server
    ADOPTED = "adopted"  # supervisor: it has taken over a job of a dead supervisor
    RETIRED = "retired"  # supervisor: it exits, because it has neither jobs nor servers


StepHook = Callable[[Step, object], None]

_hooks: tuple[StepHook, ...] = ()


def add_step_hook(hook: StepHook) -> None:
    """Call ``hook`` with every step that this process takes, before the hooks that were added earlier."""
    global _hooks  # noqa: PLW0603 - steps are taken in every module; passing hooks to all is worse
    _hooks = (hook, *_hooks)


def remove_step_hook(hook: StepHook) -> None:
    """Stop calling a hook. Idempotent."""
    global _hooks  # noqa: PLW0603 - see above
    _hooks = tuple(each for each in _hooks if each is not hook)


def reached(step: Step, job: object = "") -> None:
    """Report that a step was taken, for the job with this id; empty: the step belongs to no single job."""
    for hook in _hooks:
        hook(step, job)
