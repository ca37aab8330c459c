"""Kills at random moments, while clients keep starting jobs and following them."""

import asyncio
import os
import random

import pytest

from worker.linux.supervisor.job import ENDED_UNOBSERVED

from ..support.persistent_client import CheckedJob, Ledger, persistent
from ..support.restarting_installation import RestartingInstallation

SEED = int(os.environ.get("WORKER_CRASH_SEED") or random.randrange(1 << 32))
"""Printed when a test fails. It repeats the choices, but not the exact moments of the kills."""

TIMES = float(os.environ.get("WORKER_CRASH_TIMES", "1"))
"""Factor for the number of kills."""

CLIENTS = 5
SHORT, LONG = 0.25, 1.2
"""Longest pause between kills, in seconds. Some kills hit a process that starts; servers start slowly."""

LEFTOVERS = (":", "sleep 1000 &", "sh -c 'trap \"\" TERM; sleep 0.2' &", "setsid sleep 1000 &")


@pytest.mark.parametrize(
    ("victims", "kills", "may_be_lost", "may_be_cut"),
    [
        (["server", "recorder", "server recorder"], 40, frozenset(), False),
        (["supervisor", "recorder", "zygote", "supervisor recorder"], 100, frozenset(), False),
        # No process holds a pidfd of a job that ends while there is neither supervisor nor server.
        (["server", "supervisor", "server supervisor"], 40, frozenset({ENDED_UNOBSERVED}), False),
        # No process holds the FIFO either: the kernel drops the bytes in it when the job ends.
        (["server supervisor recorder"], 30, frozenset({ENDED_UNOBSERVED}), True),
    ],
    ids=["server-recorder", "supervisor-recorder-zygote", "server-supervisor", "all-at-once"],
)
def test_random_kills(restarting: RestartingInstallation, victims, kills, may_be_lost, may_be_cut):
    """Whichever process dies at any moment: every job ran once, with all of its output and its true end."""
    dice = random.Random(f"{SEED} {victims}")
    ledger = Ledger(restarting)
    try:
        asyncio.run(scenario(ledger, dice, [each.split() for each in victims], round(kills * TIMES)))
        ledger.check(may_be_lost=may_be_lost, may_be_cut=may_be_cut)
    except BaseException as error:
        error.add_note(f"to repeat these choices: WORKER_CRASH_SEED={SEED}")
        raise


async def scenario(ledger: Ledger, dice: random.Random, victims: list[list[str]], kills: int) -> None:
    """Have clients run jobs until all kills are done."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(run_jobs(f"client-{number}", ledger, random.Random(dice.random()), over))
        await kill(ledger.installation, dice, victims, kills)
        over.set()


async def kill(
    restarting: RestartingInstallation, dice: random.Random, victims: list[list[str]], kills: int
) -> None:
    """Kill this many processes."""
    longest = LONG if any("server" in each for each in victims) else SHORT
    while kills > 0:
        await asyncio.sleep(dice.uniform(0, longest))
        for role in dice.choice(victims):
            kills -= restarting.kill(role)


async def run_jobs(name: str, ledger: Ledger, dice: random.Random, over: asyncio.Event) -> None:
    """Run one job after the other."""
    number = 0
    async with persistent(ledger.installation) as client:
        while not over.is_set():
            number += 1
            checked_job = CheckedJob(
                f"{name}-{number}",
                code=dice.randrange(256),
                lines=dice.choice([2, 100, 3000]),
                before=dice.choice(LEFTOVERS),
                # Long enough for the server to open a pidfd: a job that ends before that may be lost.
                pause=f"sleep {dice.uniform(0.1, 0.4):.2f}",
            )
            await ledger.finish(checked_job, await ledger.start(checked_job, client), client)
