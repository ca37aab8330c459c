"""The pages of the commands, from click: usage, description, arguments, options, examples."""

import inspect
import re
from collections.abc import Iterator

import click

from worker.cli.main import COMMANDS


def command_pages() -> dict[str, str]:
    """Return a page for each command, and the list of all."""
    loaded = {str(each.name): each.load() for each in COMMANDS}
    pages = {f"commands/{name}.md": _page(f"worker {name}", command) for name, command in loaded.items()}
    summaries = {str(each.name): each.help or "" for each in COMMANDS}
    rows = [f"- [worker {name}](commands/{name}.md): {summaries[name]}" for name in loaded]
    tree = ["```{toctree}", ":hidden:", "", *(f"commands/{name}" for name in loaded), "```"]
    title = "# worker\n\nThe commands. `worker COMMAND --help` prints the same facts as these pages."
    return pages | {"commands.md": "\n\n".join([title, "\n".join(rows), "\n".join(tree)])}


def _page(name: str, command: click.Command) -> str:
    parts = [f"# {name}", *_sections(name, command, "##")]
    if isinstance(command, click.Group):
        for sub_name, sub in command.commands.items():
            parts += [f"## {name} {sub_name}", *_sections(f"{name} {sub_name}", sub, "###")]
    return "\n\n".join(parts)


def _sections(name: str, command: click.Command, heading: str) -> Iterator[str]:
    """Yield the sections of a man page; ``heading`` is what marks a heading of their level."""
    context = click.Context(command, info_name=name, **command.context_settings)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield f"{heading} Synopsis"
    yield f"```text\n{usage}\n```"
    yield f"{heading} Description"
    yield _prose(command.help or "")
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    options = [each for each in shown if isinstance(each, click.Option)]
    if options:
        yield f"{heading} Options"
        yield "\n".join(_option(each, context) for each in options)
    if command.epilog:
        yield _prose(command.epilog)


def _prose(text: str) -> str:
    """Return help text as Markdown: click marks preformatted paragraphs with a backspace character."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b\n"):
            body = paragraph.removeprefix("\b\n")
            title, _, rest = body.partition("\n")
            if title.endswith(":"):
                paragraphs.append(f"**{title.rstrip(':')}**")
                body = inspect.cleandoc(rest)
            paragraphs.append(f"```console\n{body}\n```" if "$ " in body else f"```text\n{body}\n```")
        else:
            paragraphs.append(_escaped(paragraph))
    return "\n\n".join(paragraphs)


def _escaped(text: str) -> str:
    """Return text without the meaning that Markdown gives to `<` and `*` outside of code."""
    return re.sub(r"(`[^`]*`)|([<*])", lambda found: found[1] or f"\\{found[2]}", text)


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    names, text = record
    # The default and the variable are shown by click at the end: [default: 60s; env var: WORKER_X]
    return f"- `{names}`: {_escaped(' '.join(text.split()))}"
