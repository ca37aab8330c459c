"""What a job waits for, from made-up files and answers."""

from dataclasses import replace

import pytest

from worker.core.lifecycle import MainEnded
from worker.core.model.channel import Channel
from worker.core.model.ending import Cause, End, Exited, Lost
from worker.linux.diagnosis.files import JobFiles, JobProcess, RecordedChannel
from worker.linux.diagnosis.waiting import waits_for
from worker.linux.state.history import History, StartRecord

from ..support.plans import plan

MAIN = JobProcess(10, "S", "make", before_exec=False)
CHILD = JobProcess(11, "D", "cc", before_exec=False)
START = StartRecord(10, 1, "boot", 0.0, None, plan())
FILES = JobFiles(
    "/jobs/x",
    History(START, "generation"),
    "",
    awaits_record=False,
    channels=(RecordedChannel(Channel.OUTPUT, 0, 5, 0),),
    processes=(MAIN,),
    holders=(),
    supervisor=100,
    recorder=101,
)
ENDED = History(START, "generation", main=MainEnded(Exited(0)))
END = End(Exited(0), Cause.NONE, 0, {}, 1.0)
LOST = End(Lost("the machine restarted"), Cause.NONE, 0, {}, 1.0)
QUIET = {"state": "running", "deadline": None, "next_signal": None, "output_trouble": ""}
FULL = replace(FILES, channels=(RecordedChannel(Channel.OUTPUT, 0, 5, 65536),))


@pytest.mark.parametrize(
    ("files", "supervisor", "expected"),
    [
        (None, None, "Unknown: nothing is on disk here."),
        (replace(FILES, history=None), None, "The supervisor to clone the process"),
        (replace(FILES, history=None, awaits_record=True), None, "The supervisor to record the cloned"),
        (replace(FILES, history=None, channels=()), None, "Nothing: the end is journaled"),
        (replace(FILES, history=None, history_error="torn"), None, "its history is unreadable"),
        (replace(FILES, supervisor=0), None, "A supervisor to take it over"),
        (FILES, None, "supervisor 100 does not answer"),
        (
            replace(FILES, processes=(replace(MAIN, before_exec=True),)),
            QUIET,
            "Process 10 to execute the command",
        ),
        (FILES, QUIET, "Process 10 to exit (state S)."),
        (FILES, {**QUIET, "deadline": 7.5, "next_signal": 15}, "SIGTERM follows in 2.5 s."),
        (FILES, {**QUIET, "deadline": 5.0, "next_signal": 36}, "signal 36 follows in 0.0 s."),
        (FILES, {**QUIET, "paused": True}, "`worker resume`: the job is paused."),
        (FILES, {**QUIET, "deadline": 1.0, "next_signal": 9}, "SIGKILL follows in 0.0 s."),
        (FULL, {**QUIET, "output_trouble": "No space left on device"}, "No space left on device"),
        (replace(FILES, history=ENDED, processes=(CHILD,)), QUIET, "outlive the main process: 11 (state D"),
        (
            replace(FULL, history=ENDED, processes=()),
            QUIET,
            "drain the output; 65536 bytes are in the FIFOs",
        ),
        (replace(FULL, history=ENDED, processes=(), recorder=0), QUIET, "no recorder runs"),
        (replace(FILES, history=replace(ENDED, end=END)), QUIET, "The job has ended. The server"),
        (replace(FILES, history=replace(ENDED, end=LOST)), QUIET, "has ended (the machine restarted)."),
    ],
)
def test_what_a_job_waits_for(
    files: JobFiles | None, supervisor: dict[str, object] | None, expected: str
) -> None:
    """The sentence names the process, the file or the signal that is next."""
    assert expected in waits_for(files, supervisor, 5.0)
