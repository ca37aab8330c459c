"""Help pages: on one screen, with examples that exist; `--help-all` has every option."""

import shlex
from collections.abc import Iterator

import click
import pytest

from worker.cli.help_page import HelpPage
from worker.cli.main import COMMANDS, HIDDEN, worker
from worker.cli.unknown_commands import _INSTEAD, _NEVER_SUGGESTED, instead_of

SCREEN = 50
"""Lines of a page at most, at 80 columns."""


def pages() -> Iterator[tuple[str, HelpPage]]:
    """Yield the name and the page of each command, and of those in a group."""
    for lazy in COMMANDS:
        command = lazy.load()
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                assert isinstance(each, HelpPage), name
                yield f"{lazy.name} {name}", each
        else:
            assert isinstance(command, HelpPage), lazy.name
            yield str(lazy.name), command


PAGES = dict(pages())


def text_of(name: str, *, whole: bool = False) -> str:
    """Return a help page at 80 columns."""
    page = PAGES[name]
    context = click.Context(page, info_name=f"worker {name}", max_content_width=80, terminal_width=80)
    return page.whole_help(context) if whole else page.get_help(context)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_screen(name: str) -> None:
    """What is rare is shown by --help-all only."""
    assert len(text_of(name).splitlines()) <= SCREEN


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_two_examples(name: str) -> None:
    """Each is a command line of this command with options that exist."""
    page = PAGES[name]
    assert len(page.examples) >= 2
    for example in page.examples:
        words = shlex.split(example, comments=True)
        words = words[: words.index("&&")] if "&&" in words else words
        assert ["worker", *name.split()] == words[: 1 + len(name.split())]
        context = click.Context(page, **page.context_settings)
        page.make_parser(context).parse_args(words[1 + len(name.split()) :])


@pytest.mark.parametrize("name", PAGES)
def test_help_all_has_every_option(name: str) -> None:
    """No option is hidden; limits of numbers are not shown as powers of two."""
    whole = text_of(name, whole=True)
    for option in PAGES[name].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.opts[0] in whole
    assert "4611686018427387904" not in whole
    assert "9223372036854775807" not in whole


def test_the_overview_has_every_command_once() -> None:
    """Hidden ones, which are words of docker, are not listed."""
    overview = worker.get_help(click.Context(worker, info_name="worker"))
    for command in COMMANDS:
        assert (0 if command.hidden else 1) == overview.count(f"\n  {command.name} ")


def test_the_overview_ends_with_the_words_of_docker() -> None:
    """They are named where one looks for them, without a line for each."""
    overview = worker.get_help(click.Context(worker, info_name="worker"))
    (line,) = [each for each in overview.splitlines() if each.startswith("Also, as in docker: ")]
    assert not [each.name for each in HIDDEN if str(each.name) not in line]


@pytest.mark.parametrize("name", [*_INSTEAD, "lst", "stpo", "remve", "kil", "nonesuch"])
def test_an_unknown_command(name: str) -> None:
    """The message names commands that exist, and none that ends, removes or changes something."""
    names = {str(each.name) for each in COMMANDS}
    assert name not in names
    text = instead_of(name, names)
    suggested = {words.split()[1] for words in text.split("`")[1::2] if words.startswith("worker ")}
    suggested -= {"--help", "COMMAND"}
    assert suggested <= names - _NEVER_SUGGESTED | {"up"}
