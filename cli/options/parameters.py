"""Option types: a metavar and the function that parses the text."""

import os
import re
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, TypeVar

import click

from ...client.address import parse_address
from ...core.errors import InvalidJobSpec
from ...core.model.duration import parse_duration
from ...core.model.job import check_output_max
from ...core.model.secrets import LARGEST_SECRET, check_secrets
from ...core.model.stream_start import BEGINNING, LastLines, StreamStart
from .quantities import (
    parse_cores,
    parse_count,
    parse_device_operations,
    parse_device_rate,
    parse_size,
    parse_weight,
)
from .signals import SIGNAL_NAMES, parse_signal
from .times import parse_time
from .ulimits import parse_ulimit

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., object])
Value = TypeVar("Value")


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """An option type; ``parse`` returns the value of a text, or raises ValueError with the reason."""

    def __init__(self, metavar: str, parse: Callable[[str], Value]) -> None:
        self.name = metavar
        self.parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Return the parsed value; raise UsageError, such as `--memory 10X: unknown unit 'X'`."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            where = f"{param.opts[-1]} " if param is not None else ""
            raise click.UsageError(f"{where}{value}: {error}", ctx) from None

    def from_file(self, value: object, name: str) -> object:
        """Return the value of a key in a TOML file; raise ValueError, naming the option."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(  # noqa: TRY004 - one error for everything in a file
                f"write a {self.name}, as for {option_name(name)}"
            )
        return self.parse(str(value))


def positive(kind: Parsed) -> Parsed:
    """Return the type without zero."""

    def parse(text: str) -> object:
        value = kind.parse(text)
        if not value:
            raise ValueError("must be more than 0")
        return value

    return Parsed(kind.name, parse)


def unlimited(kind: Parsed) -> Parsed:
    """Return the type with the additional value ``unlimited``."""
    return Parsed(kind.name, lambda text: inf if text in {"unlimited", str(inf)} else kind.parse(text))


class Switch(Parsed):
    """``yes`` or ``no``; in a TOML file also ``true`` or ``false``."""

    def from_file(self, value: object, name: str) -> object:
        """Return the value of a key in a TOML file."""
        return value if isinstance(value, bool) else super().from_file(value, name)


class _Signal(Parsed):
    """A signal; the shell completes its name."""

    def shell_complete(
        self, _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        """Return the names that begin with the text, with SIG before them if the text has it."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only completion needs it

        begun = incomplete.upper()
        prefix = "SIG" if begun.startswith("SIG") else ""
        return [CompletionItem(prefix + name) for name in SIGNAL_NAMES if (prefix + name).startswith(begun)]


def option_name(name: str) -> str:
    """Return the name of a setting on the command line."""
    return f"--{name.replace('_', '-')}"


def server_option(
    name: str, kind: Parsed, help_text: str, *, multiple: bool = False
) -> Callable[[Command], Command]:
    """Return a decorator that adds the option of a server setting, which is also a WORKER_* variable."""
    return click.option(
        option_name(name),
        name,
        type=kind,
        multiple=multiple,
        envvar=f"WORKER_{name.upper()}",
        show_envvar=True,
        help=help_text,
    )


def parse_pair(text: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError("write NAME=VALUE")
    return name, value


def parse_label(text: str) -> tuple[str, str, bool]:
    """Return name and value of ``NAME=VALUE`` or ``NAME!=VALUE``, and whether jobs must have it."""
    name, equals, value = text.partition("=")
    given = not name.endswith("!")
    name = name.removesuffix("!")
    if not equals or not name:
        raise ValueError("write NAME=VALUE or NAME!=VALUE")
    return name, value, given


def parse_variable(text: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``; of ``NAME``, the value that it has here."""
    name, equals, value = text.partition("=")
    if not name:
        raise ValueError("write NAME=VALUE or NAME")
    if not equals and (value := os.environ.get(name, "")) == "" and name not in os.environ:
        raise ValueError(f"the variable {name} is not set here; write {name}=VALUE")
    return name, value


def parse_env_file(text: str) -> Mapping[str, str]:
    """Return the variables of a file: ``NAME=VALUE`` or ``NAME`` on each line, comments begin with #."""
    try:
        with open(text, encoding="utf-8") as file:
            lines = [line.rstrip("\n") for line in file]
    except OSError as error:
        raise ValueError(f"cannot read it: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                name, value = parse_variable(line.lstrip())
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            found[name] = value
    return found


def parse_tail(text: str) -> StreamStart:
    """Return the start of the last lines, such as ``100``, or of everything for ``all``."""
    if text == "all":
        return BEGINNING
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or int(text) >= 1 << 63:
        raise ValueError("not a number of lines; write 100, or all")
    return LastLines(int(text))


def parse_whole(text: str, below: int) -> int:
    """Return a whole number that is less than ``below``."""
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII):
        raise ValueError("not a whole number")
    if int(text) >= below:
        raise ValueError("too large")
    return int(text)


def parse_switch(text: str) -> bool:
    """Return the meaning of ``yes`` or ``no``, or of another usual word for it."""
    words = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False}
    meanings = {**words, "0": False}
    if text.lower() not in meanings:
        raise ValueError("write yes or no")
    return meanings[text.lower()]


def parse_output_max(text: str) -> int:
    """Return the bytes of output to keep, written as ``10M``; 0 for ``all``."""
    size = 0 if text == "all" else parse_size(text)
    try:
        check_output_max(size)
    except InvalidJobSpec as error:
        raise ValueError(error.reason) from None
    return size


def parse_secret(text: str) -> tuple[str, bytes]:
    """Return the name of a secret and its value, the contents of the file in ``NAME=FILE``."""
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise ValueError("write NAME=FILE")
    try:
        with open(path, "rb") as file:
            value = file.read(LARGEST_SECRET + 1)
        check_secrets({name: value})
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except InvalidJobSpec as error:
        reason = f"{path} is larger than 64K" if len(value) > LARGEST_SECRET else error.reason
        raise ValueError(reason) from None
    return name, value


ADDRESS = Parsed("HOST:PORT", parse_address)
CORES = Parsed("CORES", parse_cores)
COUNT = Parsed("NUMBER", parse_count)
CPU_LIST = Parsed("LIST", str)
DEVICE_OPERATIONS = Parsed("DEVICE=NUMBER", parse_device_operations)
DEVICE_RATE = Parsed("DEVICE=RATE", parse_device_rate)
DURATION = Parsed("DURATION", parse_duration)
ENV_FILE = Parsed("FILE", parse_env_file)
LABEL = Parsed("NAME=VALUE", parse_label)
OUTPUT_MAX = Parsed("SIZE", parse_output_max)
PAIR = Parsed("NAME=VALUE", parse_pair)
SECRET = Parsed("NAME=FILE", parse_secret)
SIGNAL = _Signal("SIGNAL", parse_signal)
SIZE = Parsed("SIZE", parse_size)
TAIL = Parsed("LINES", parse_tail)
TIME = Parsed("TIME", parse_time)
ULIMIT = Parsed("NAME=SOFT[:HARD]", parse_ulimit)
SWITCH = Switch("yes|no", parse_switch)
VARIABLE = Parsed("NAME[=VALUE]", parse_variable)
WEIGHT = Parsed("WEIGHT", parse_weight)
