"""How Sphinx builds the documentation: HTML pages and man pages from the same Markdown (`make docs`)."""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "worker"
author = "the authors of worker"
release = version = _PROJECT["version"]

extensions = ["myst_parser"]
exclude_patterns = ["man"]
nitpicky = True
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
# A console session also has output, options and error messages: no lexer knows them all.
highlight_language = "none"

html_theme = "furo"
html_title = f"worker {release}"
html_show_copyright = False

_SOURCE = _PROJECT["urls"]["Source"] + "/blob/main/"


def _commands() -> list[tuple[str, str]]:
    """Return name and summary of each command, from the generated list of commands."""
    listed = (ROOT / "docs/reference/commands.md").read_text()
    return re.findall(r"^- \[worker ([a-z-]+)\]\([^)]*\): (.*)$", listed, re.MULTILINE)


man_pages = [
    ("reference/commands", "worker", _PROJECT["description"], author, 1),
    *((f"reference/commands/{name}", f"worker-{name}", text, author, 1) for name, text in _commands()),
    ("reference/settings", "worker.toml", "settings of the worker server", author, 5),
]


def _link_to_the_source(_app: Sphinx, page: str, content: list[str]) -> None:
    """Let links to files outside of docs/ lead to the repository: they are no pages."""
    folder = (ROOT / "docs" / page).parent

    def target(found: re.Match[str]) -> str:
        path = (folder / found[1]).resolve()
        if path.is_relative_to(ROOT / "docs") and path.suffix == ".md":
            return found[0]
        return f"]({_SOURCE}{path.relative_to(ROOT)}{found[2]})"

    content[0] = re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)", target, content[0])


def _name_man_pages(app: Sphinx, page: str, content: list[str]) -> None:
    """Let man pages name each other: a link has no address there, and is printed as <>."""
    if app.builder.name == "man" and page == "reference/commands":
        content[0] = re.sub(r"\[worker ([a-z-]+)\]\(commands/[^)]*\)", r"worker-\1(1)", content[0])


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("source-read", _link_to_the_source)
    app.connect("source-read", _name_man_pages)
