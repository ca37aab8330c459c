"""The help page of a command: on one screen what most people need, with examples; all with --help-all."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import click

CONNECTION = ("server", "context", "ca", "cert", "key", "reconnect")
"""Parameters of every command that calls a server."""

_RARE = frozenset({"ca", "cert", "key", "reconnect"})
_ALL = "--help-all"


class HelpPage(click.Command):
    """A command with sections of options, and examples.

    ``common``: the parameters that `--help` shows; None: all except rare ones of the connection.
    ``sections``: titles of options that are not shown as "Options", with their parameters.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        common: Collection[str] | None = None,
        sections: Mapping[str, Collection[str]] | None = None,
        **attrs: Any,
    ) -> None:
        super().__init__(*args, **attrs)
        self.examples = examples
        self._common = common
        self._sections = {**(sections or {}), "Connection": CONNECTION}
        self._whole = not any(self._is_rare(parameter) for parameter in self.params)
        if not self._whole:
            self.params.append(_help_all(self))

    def whole_help(self, ctx: click.Context) -> str:
        """Return the page with all options."""
        self._whole = True
        return super().get_help(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in their sections."""
        for title, rows in self._rows(ctx).items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")

    def _rows(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or isinstance(parameter, click.Argument):  # the usage has the arguments
                continue
            if self._whole or not self._is_rare(parameter):
                rows.setdefault(self._section(parameter), []).append(record)
        return {title: rows[title] for title in ("Options", *self._sections) if title in rows}

    def _section(self, parameter: click.Parameter) -> str:
        titles = (title for title, names in self._sections.items() if parameter.name in names)
        return next(titles, "Options")

    def _is_rare(self, parameter: click.Parameter) -> bool:
        if isinstance(parameter, click.Argument) or parameter.name in {"help", "help_all"}:
            return False
        if self._common is None or parameter.name in CONNECTION:
            return parameter.name in _RARE
        return parameter.name not in self._common


def _help_all(command: HelpPage) -> click.Option:
    def show(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
        if value and not ctx.resilient_parsing:
            click.echo(command.whole_help(ctx), color=ctx.color)
            ctx.exit()

    return click.Option(
        [_ALL, "help_all"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show all options and exit.",
    )


def command(
    name: str | None = None,
    *,
    examples: Sequence[str],
    common: Collection[str] | None = None,
    sections: Mapping[str, Collection[str]] | None = None,
    **attrs: Any,
) -> Callable[[Callable[..., object]], HelpPage]:
    """Return a decorator that makes a function a command with such a page, as click.command does."""
    return click.command(name, cls=HelpPage, examples=examples, common=common, sections=sections, **attrs)


class HelpGroup(click.Group):
    """A group of commands with such pages."""

    command_class = HelpPage


def group(name: str) -> Callable[[Callable[..., object]], HelpGroup]:
    """Return a decorator that makes a function such a group, as click.group does."""
    return click.group(name, cls=HelpGroup)
