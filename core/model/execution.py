"""What is executed for a command, where that was decided before the job is spawned."""

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Execution:
    """``path`` is executed without another lookup, with the command as it was requested as argv[0].

    With a ``wrapper``, its first element is executed, and its arguments are the others, ``path`` and the
    arguments of the job. ``search_path`` is the PATH of a job that sets none. ``directory``, if there is
    one, is the working directory, an absolute path without links: it is entered without following links,
    because others may have put one on the way after the decision.
    """

    path: str
    wrapper: tuple[str, ...] = ()
    search_path: str = DEFAULT_PATH
    directory: str = ""

    @property
    def file(self) -> str:
        """The file that is executed."""
        return self.wrapper[0] if self.wrapper else self.path

    def argv(self, command: str, args: Sequence[str]) -> tuple[str, ...]:
        """Return all arguments of the process, from argv[0] on."""
        return (*self.wrapper, self.path, *args) if self.wrapper else (command, *args)
