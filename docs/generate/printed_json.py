"""The page of the JSON that commands print, from the types that the commands name (`format_option`)."""

import inspect
import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, NotRequired, Union, get_args, get_origin, get_type_hints

import click

from worker.cli import json_errors
from worker.cli.main import COMMANDS
from worker.cli.terminal.job_object import JobObject
from worker.cli.terminal.show import FormatOption

_WORDS = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    object: "any",
}


def json_page() -> str:
    """Return the page: what each command prints, then the objects."""
    rows = [f"| `{name}` | {_type(printed)} |" for name, printed in printed_by_command().items()]
    parts = [
        "# JSON",
        "",
        "What the commands print with `-o json`. `worker inspect` always prints JSON, and `worker list",
        "-o jsonl` one object in each line. A command that takes several jobs prints an object if one is",
        "named, and a list for several and for `--label`. Keys may be added, but are never renamed.",
        "",
        "| command | prints |",
        "|---|---|",
        *rows,
        "",
    ]
    for each in objects():
        parts += [*_section(each), ""]
    return "\n".join([*parts, *_errors()])


def _errors() -> list[str]:
    """Return the section about errors, from the description in cli/json_errors.py."""
    _, intro, example, about, codes = re.split(r"\n\n", inspect.cleandoc(json_errors.__doc__ or ""))
    shape, meanings = (f"```text\n{inspect.cleandoc(text)}\n```" for text in (example, codes))
    return ["## Errors", "", intro, "", shape, "", about, "", meanings]


def printed_by_command() -> dict[str, Any]:
    """Return the type of what each command prints, by its words."""
    found = dict(_options())
    found["worker inspect"] = list[JobObject]
    return dict(sorted(found.items()))


def objects() -> list[Any]:
    """Return the types of all objects, each before those that are only inside it."""
    found: dict[Any, None] = {}
    for printed in printed_by_command().values():
        _add(printed, found)
    return list(found)


def is_object(kind: Any) -> bool:
    """Whether a type is that of an object with fixed keys."""
    return isinstance(kind, type) and not get_args(kind) and issubclass(kind, dict)


def fields_of(kind: Any) -> dict[str, tuple[Any, str, bool]]:
    """Return the keys of an object: type, description, and whether the key is always there."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        always = get_origin(hint) is not NotRequired
        described = hint if always else get_args(hint)[0]
        assert get_origin(described) is Annotated, f"{kind.__name__}.{name} has no description"
        found[name] = (*get_args(described), always)
    return found


def _options() -> Iterator[tuple[str, Any]]:
    for each in COMMANDS:
        command = each.load()
        subs = command.commands.items() if isinstance(command, click.Group) else ()
        for name, found in [("", command), *subs]:
            for option in found.params:
                if isinstance(option, FormatOption):
                    yield f"worker {each.name} {name}".strip(), option.prints


def _add(kind: Any, found: dict[Any, None]) -> None:
    if is_object(kind):
        if kind not in found:
            found[kind] = None
            for of, _, _ in fields_of(kind).values():
                _add(of, found)
    else:
        for each in get_args(kind):
            _add(each, found)


def _section(kind: Any) -> Iterator[str]:
    yield f"## {title(kind)}"
    yield ""
    yield " ".join((kind.__doc__ or "").split())
    yield ""
    yield "| key | type | meaning |"
    yield "|---|---|---|"
    for name, (of, text, always) in fields_of(kind).items():
        yield f"| `{name}` | {_type(of)}{'' if always else ', not always there'} | {text} |"


def title(kind: Any) -> str:
    """Return the name of an object in the page: JobProcessObject is "job process"."""
    words = re.findall(r"[A-Z][a-z]*", kind.__name__.removesuffix("Object"))
    return " ".join(words).capitalize()


def _type(kind: Any) -> str:
    if is_object(kind):
        return f"[{title(kind)}](#{title(kind).lower().replace(' ', '-')})"
    origin, inner = get_origin(kind), [_type(each) for each in get_args(kind)]
    if origin is list:
        return f"list of {inner[0]}"
    if origin is dict:
        return f"object with values of {inner[1]}"
    if origin in {Union, UnionType}:
        return " or ".join(inner)
    return _WORDS[kind]
