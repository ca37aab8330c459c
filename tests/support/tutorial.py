"""Types the tutorial, docs/tutorial/first-job.md, as it stands into the terminals of its two machines."""

import re
from collections.abc import Mapping

from .page_session import Ids
from .pages import ROOT, Step, blocks, steps
from .tmux import Terminal

PAGE = ROOT / "docs" / "tutorial" / "first-job.md"
HOST, LAPTOP = "build1", "laptop"
"""The names of the machines; commands without the name of a machine are for the first one."""

_KEYS = re.compile(r"^worker: creating an RSA key .*\n", re.MULTILINE)
_INVITATION = re.compile(r"worker join \S+ wj1_\S+")
_INTERRUPT = "^C"


class Tutorial:
    """Follows the page; ``has_keys``: the first `worker up` creates no keys."""

    def __init__(self, terminals: Mapping[str, Terminal], home: str, *, has_keys: bool = False) -> None:
        self._terminals = terminals
        self._home = home
        self._has_keys = has_keys
        self._ids = Ids()
        self._invitation = ""

    def follow(self) -> None:
        """Type each command, and check that the terminal shows what the page shows."""
        found = [step for block in blocks(PAGE.read_text()) for step in steps_of(block.kind, block.code)]
        assert {"", HOST, LAPTOP} == {step.machine for step in found}
        for step in found:
            self._do(step)
        for terminal in self._terminals.values():
            terminal.wait_for_prompt()

    def _do(self, step: Step) -> None:
        """A command that waits for the other machine is left to itself when it has printed everything."""
        terminal = self._terminals[step.machine or HOST]
        command = _INVITATION.sub(lambda _: self._invitation, self._ids.command(step.command))
        terminal.clear()
        terminal.type(command)
        shown = _KEYS.sub("", step.shown) if self._has_keys else step.shown
        before, interrupt, _ = shown.partition(_INTERRUPT)
        if interrupt:
            terminal.wait(lambda: self._matches(before, terminal.printed()))
            terminal.press("C-c")
        terminal.wait(lambda: terminal.ended() or self._matches(shown, terminal.printed() or "..."))
        printed = terminal.printed()
        assert self._matches(shown, printed), f"$ {command}\n{printed}\nthe page shows:\n{shown}"
        self._ids.started(printed)
        if found := _INVITATION.search(printed):
            self._invitation = found[0]

    def _matches(self, shown: str, printed: str) -> bool:
        return self._ids.match(shown, printed, self._home)


def steps_of(kind: str, code: str) -> list[Step]:
    """Return the commands of a block."""
    return steps(code) if kind == "console" else []
