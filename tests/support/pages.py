"""The code blocks of a page, with what its comments say about running them.

A comment of HTML, which readers do not see, stands before the block that it is about:

``<!-- setup: COMMANDS -->``             commands that are run before the block, on any number of lines
``<!-- needs: COMMAND -->``              the rest of the page is skipped where this command fails
``<!-- not run: REASON: TEST, ... -->``  the block is not run; these tests check what it shows
``<!-- page not run: REASON: TEST -->``  the same for all blocks of the page

A block is saved as a file if a line with its name in backquotes and a colon stands before it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

RUN = ("console", "python")
"""Kinds of blocks that are run."""

CHECKED = ("toml",)
"""Kinds of blocks that tests/unit/test_documentation.py checks."""

_PIECE = re.compile(
    r"<!-- (?P<word>setup|needs|not run|page not run):\s+(?P<text>.*?)\s*-->"
    r"|^(?P<indent> *)```(?P<kind>\S*)\n(?P<code>.*?)^(?P=indent)```$"
    r"|^`(?P<file>[\w./-]+)`:$",
    re.DOTALL | re.MULTILINE,
)
_PROMPT = re.compile(r"(\w*)\$ ")
_TEST = r"tests/\S+\.py(?:::\w+)?"
_EXCUSE = re.compile(rf"(?P<reason>.+): (?P<tests>{_TEST}(?:,\s+{_TEST})*)", re.DOTALL)


@dataclass(frozen=True)
class Excuse:
    """Why a block is not run, and the tests that check what it shows."""

    reason: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    kind: str
    code: str
    setup: str = ""
    needs: str = ""
    excuse: Excuse | None = None
    file: str = ""
    """The name of the file as which the page shows it."""


@dataclass(frozen=True)
class Step:
    """A command of a console block, and what the page shows below it.

    ``machine`` is the word before the ``$`` of the prompt.
    """

    command: str
    shown: str
    machine: str = ""


def pages() -> list[Path]:
    """Return README.md and every page of the documentation."""
    built = ROOT / "docs" / "man"
    found = (path for path in (ROOT / "docs").rglob("*.md") if not path.is_relative_to(built))
    return [ROOT / "README.md", *sorted(found)]


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page in their order. Raises ValueError for an excuse without a test."""
    return list(_blocks(text))


def _blocks(text: str) -> Iterator[Block]:
    setup, needs, file, excuse, of_all = "", "", "", None, None
    for piece in _PIECE.finditer(text):
        line = text.count("\n", 0, piece.start()) + 1
        match piece["word"]:
            case "setup":
                setup = piece["text"]
            case "needs":
                needs = piece["text"]
            case "not run":
                excuse = _excuse(piece["text"], line)
            case "page not run":
                of_all = _excuse(piece["text"], line)
            case _ if piece["file"] is not None:
                file = piece["file"]
                continue
            case _:
                indent = piece["indent"]
                code = "".join(
                    each.removeprefix(indent) for each in piece["code"].splitlines(keepends=True)
                )
                yield Block(line, piece["kind"], code, setup, needs, excuse or of_all, file)
                setup, needs, excuse = "", "", None
        file = ""


def _excuse(text: str, line: int) -> Excuse:
    found = _EXCUSE.fullmatch(text)
    if found is None:
        raise ValueError(f"line {line}: not REASON: tests/FILE.py::test: {text}")
    return Excuse(found["reason"], tuple(re.split(r",\s+", found["tests"])))


def steps(code: str) -> list[Step]:
    """Return the commands of a console block. Raises ValueError if it does not begin with one."""
    found: list[Step] = []
    in_command = False
    for line in code.splitlines(keepends=True):
        if prompt := _PROMPT.match(line):
            found.append(Step(line[prompt.end() :], "", prompt[1]))
            in_command = True
        elif not found:
            raise ValueError(f"it begins with output: {line}")
        elif in_command and line.startswith("> "):  # the prompt of a shell for the rest of a command
            found[-1] = replace(found[-1], command=found[-1].command + line[2:])
        else:
            found[-1] = replace(found[-1], shown=found[-1].shown + line)
            in_command = False
    return [replace(step, command=step.command.rstrip("\n")) for step in found]


def defects(block: Block) -> Iterator[str]:
    """Yield why a block is neither run nor excused, or why its excuse is not one."""
    if block.excuse is not None:
        yield from (f"no such test: {test}" for test in block.excuse.tests if not _exists(test))
    elif block.kind == "text":
        if re.search(r"^\$ ", block.code, re.MULTILINE):
            yield "commands belong into a console block"
    elif not (block.kind in {*RUN, *CHECKED} or block.kind.startswith("{")):
        yield f"a block of kind {block.kind!r} needs a comment that names the test which checks it"


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    path = ROOT / file
    return path.is_file() and (
        not name or bool(re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE))
    )
