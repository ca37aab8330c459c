"""Kills at random moments, while clients keep starting jobs and following them."""

import asyncio
import os
import random

import pytest

from worker.linux.supervisor.job import ENDED_UNOBSERVED

from ..support.persistent_client import CheckedJob, Ledger, persistent
from ..support.restarting_installation import RestartingInstallation

SEED = int(os.environ.get("WORKER_CRASH_SEED") or random.randrange(1 << 32))
"""What is thrown with it is said when a test fails; the moments are the machine's own all the same."""

TIMES = float(os.environ.get("WORKER_CRASH_TIMES", "1"))
"""How many times as many kills as usual."""

CLIENTS = 5
SHORT, LONG = 0.25, 1.2
"""Seconds between kills, at most: some hit those that are just coming up, which takes a server longer."""

LEFTOVERS = (":", "sleep 1000 &", "sh -c 'trap \"\" TERM; sleep 0.2' &", "setsid sleep 1000 &")


@pytest.mark.parametrize(
    ("victims", "kills", "may_be_lost", "may_be_cut"),
    [
        (["server", "recorder", "server recorder"], 40, frozenset(), False),
        (["supervisor", "recorder", "zygote", "supervisor recorder"], 100, frozenset(), False),
        # Nobody holds a pidfd of what ends while neither supervisor nor server is there.
        (["server", "supervisor", "server supervisor"], 40, frozenset({ENDED_UNOBSERVED}), False),
        # Nobody holds the FIFO either: the kernel drops what was in it when the job ends.
        (["server supervisor recorder"], 30, frozenset({ENDED_UNOBSERVED}), True),
    ],
    ids=["server-recorder", "supervisor-recorder-zygote", "server-supervisor", "all-at-once"],
)
def test_random_kills(operated: RestartingInstallation, victims, kills, may_be_lost, may_be_cut):
    """Whoever dies whenever: every job ran once, with all of its output and its true end."""
    dice = random.Random(f"{SEED} {victims}")
    ledger = Ledger(operated)
    try:
        asyncio.run(scenario(ledger, dice, [each.split() for each in victims], round(kills * TIMES)))
        ledger.check(may_be_lost=may_be_lost, may_be_cut=may_be_cut)
    except BaseException as error:
        error.add_note(f"the same dice again: WORKER_CRASH_SEED={SEED}")
        raise


async def scenario(ledger: Ledger, dice: random.Random, victims: list[list[str]], kills: int) -> None:
    """Have clients do errands for as long as there is somebody to be killed."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(do_errands(f"client-{number}", ledger, random.Random(dice.random()), over))
        await kill(ledger.operated, dice, victims, kills)
        over.set()


async def kill(
    operated: RestartingInstallation, dice: random.Random, victims: list[list[str]], kills: int
) -> None:
    """Kill so many."""
    longest = LONG if any("server" in each for each in victims) else SHORT
    while kills > 0:
        await asyncio.sleep(dice.uniform(0, longest))
        for role in dice.choice(victims):
            kills -= operated.kill(role)


async def do_errands(name: str, ledger: Ledger, dice: random.Random, over: asyncio.Event) -> None:
    """Do one errand after the other."""
    number = 0
    async with persistent(ledger.operated) as client:
        while not over.is_set():
            number += 1
            errand = CheckedJob(
                f"{name}-{number}",
                code=dice.randrange(256),
                lines=dice.choice([2, 100, 3000]),
                before=dice.choice(LEFTOVERS),
                # Long enough to be noticed: what ends before anybody holds a pidfd of it may be lost.
                pause=f"sleep {dice.uniform(0.1, 0.4):.2f}",
            )
            await ledger.finish(errand, await ledger.start(errand, client), client)
