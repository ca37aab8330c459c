"""A terminal of tmux(1), into which a test types, and whose screen it reads."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence

PROMPT = "$"

Run = Callable[[Sequence[str]], str]
"""Runs a command on the machine of the terminal, and returns its output."""


def can_use_tmux() -> bool:
    """Whether tmux is installed."""
    return shutil.which("tmux") is not None


class Terminal:
    """A shell in a terminal of its own.

    ``environment`` is all that it has, ``prefix`` is a command that changes the user, ``size`` is in
    columns and lines, ``patience`` in seconds.
    """

    def __init__(
        self,
        run: Run,
        socket: str,
        environment: Mapping[str, str],
        directory: str,
        *,
        prefix: Sequence[str] = (),
        size: tuple[int, int] = (120, 40),
        patience: float,
    ) -> None:
        self._run = run
        self._tmux = ["tmux", "-S", socket, "-f", "/dev/null"]
        self._patience = patience
        self._typed = ""
        whole = {**environment, "TERM": "screen", "HISTFILE": "", "PS1": f"{PROMPT} "}
        variables = [f"{name}={value}" for name, value in whole.items()]
        shell = [*prefix, "env", "-i", *variables, "bash", "--norc", "--noprofile"]
        columns, lines = map(str, size)
        run([*self._tmux, "new-session", "-d", "-x", columns, "-y", lines, "-c", directory, *shell])
        self.wait_for_prompt()

    def clear(self) -> None:
        """Clear the screen when the last command has ended."""
        self.wait_for_prompt()
        self.press("C-l")
        self.wait(lambda: self._captured() == PROMPT)
        self._run([*self._tmux, "clear-history"])

    def type(self, command: str) -> None:
        """Type a command, which must not be a prefix of what the screen shows already."""
        self._typed = command.replace("\n", "\n> ")
        self._run([*self._tmux, "send-keys", "-l", command])
        self.wait(lambda: self._screen().endswith(f"{PROMPT} {self._typed}"))
        self.press("Enter")

    def press(self, key: str) -> None:
        """Press a key, which is named as in tmux(1)."""
        self._run([*self._tmux, "send-keys", key])

    def printed(self) -> str:
        """Return what the last command has printed until now."""
        _, typed, printed = self._screen().partition(f"{PROMPT} {self._typed}\n")
        if not typed:
            return ""
        return printed.removesuffix(PROMPT) if self._ended(printed) else f"{printed}\n"

    def drawn(self) -> str:
        """Return the screen with the escape sequences of its colours."""
        return self._run([*self._tmux, "capture-pane", "-p", "-e"])

    def ended(self) -> bool:
        """Whether the shell waits for a command."""
        return self._ended(self._screen())

    def wait_for_prompt(self) -> None:
        """Wait until the last command has ended."""
        self.wait(self.ended)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true; no event tells what a screen shows."""
        deadline = time.monotonic() + self._patience
        pause = 0.02
        while not condition():
            assert time.monotonic() < deadline, f"the terminal shows:\n{self._screen()}"
            time.sleep(pause)
            pause = min(2 * pause, 0.5)  # a look at the screen is a process, which is slow in a guest

    def close(self) -> None:
        """End the shell and the terminal."""
        self._run([*self._tmux, "kill-server"])

    @staticmethod
    def _ended(text: str) -> bool:
        return text == PROMPT or text.endswith(f"\n{PROMPT}")

    def _screen(self) -> str:
        """Return all lines, also those that have been scrolled away."""
        return self._captured("-S", "-")

    def _captured(self, *part: str) -> str:
        # -J joins the lines that the terminal has wrapped
        text = self._run([*self._tmux, "capture-pane", "-p", "-J", *part])
        return "\n".join(line.rstrip() for line in text.splitlines()).rstrip()
