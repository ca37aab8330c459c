"""Every file and function that a page, a docstring or a comment names exists."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ..support.pages import blocks

ROOT = Path(__file__).parent.parent.parent
HISTORY = ("CHANGELOG.md", "docs/explanation/decisions/")
"""Pages that describe the past and may name what no longer exists."""

URL = re.compile(r"\w+://\S+")
REFERENCE = re.compile(r"(?<![\w*./-])([\w./-]*\w\.(?:py|proto|sh))(?:::?([A-Za-z_][\w.]*\w))?(?!\w)")


def below_root(pattern: str) -> Iterator[str]:
    """Yield the files of the repository that match, without environments, caches and builds."""
    for path in ROOT.rglob(pattern):
        parts = path.relative_to(ROOT).parts
        if parts[0] != "build" and not any(part.startswith(".") for part in parts):
            yield "/".join(parts)


@cache
def files() -> frozenset[str]:
    """Return all files that a text can refer to."""
    return frozenset(name for kind in ("*.py", "*.proto", "*.sh") for name in below_root(kind))


@cache
def definitions(file: str) -> frozenset[str]:
    """Return the functions, classes, methods, attributes and constants that a module defines."""
    found: set[str] = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + child.name)
                visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.Assign):
                found.update(prefix + each.id for each in child.targets if isinstance(each, ast.Name))
            elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                found.add(prefix + child.target.id)
            else:
                visit(child, prefix)

    visit(ast.parse((ROOT / file).read_text()), "")
    return frozenset(found)


def missing(text: str) -> list[str]:
    """Return the references in a text to files or definitions that do not exist.

    A reference is `core/worker.py` or `core/worker.py:Worker.start`. The path may omit leading folders,
    and begin as a link does, with `../`.
    """
    wrong = []
    for match in REFERENCE.finditer(URL.sub("", text)):
        path, name = re.sub(r"^(\.{1,2}/)+", "", match[1]), match[2]
        found = [file for file in files() if file == path or file.endswith(f"/{path}")]
        if not found or (name and not any(name in definitions(file) for file in found)):
            wrong.append(match[0])
    return wrong


@pytest.mark.parametrize(
    "page", sorted(name for name in below_root("*.md") if not name.startswith(HISTORY))
)
def test_every_name_exists(page: str) -> None:
    """A page names only files and functions that exist or that it shows: readers search for them."""
    text = (ROOT / page).read_text()
    assert set() == set(missing(text)) - {block.file for block in blocks(text)}


def prose(source: str) -> str:
    """Return the comments of a module, and its docstrings, those of attributes included."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    expressions = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr))
    texts = (node.value for node in expressions if isinstance(node, ast.Constant))
    return "\n".join([*comments, *(text for text in texts if isinstance(text, str))])


@pytest.mark.parametrize(
    "package", ["api", "benchmarks", "cgroups", "cli", "client", "core", "linux", "proto", "tests"]
)
def test_every_name_in_code_exists(package: str) -> None:
    """Docstrings and comments name only files that exist, also after a module was moved or renamed."""
    modules = sorted((ROOT / package).rglob("*.py"))
    found = {str(path.relative_to(ROOT)): missing(prose(path.read_text())) for path in modules}
    assert {} == {name: wrong for name, wrong in found.items() if wrong}


def test_comments_and_docstrings_are_prose() -> None:
    """Comments and docstrings are checked, strings in the code are not: they may name files to create."""
    source = '"""see a.py"""\nX = "b.py"  # see c.py\n"""see d.py"""\n'
    assert ["c.py", "a.py", "d.py"] == missing(prose(source))


def test_a_wrong_name_is_found() -> None:
    """The check accepts full and shortened paths, and finds wrong files, functions and methods."""
    right = (
        "`core/worker.py:Worker.start`, [x](core/ports/output.py), `worker.proto`, core/worker.py:Worker."
    )
    assert [] == missing(right)
    assert [] == missing("see https://example.org/no/such.py, docs/demo.sh, tests/unit/test_x*.py and *.py")
    wrong = ["core/no_such.py", "core/worker.py:no_such", "core/worker.py:Worker.no_such", "no.proto"]
    assert wrong == missing("`core/no_such.py` " + ", ".join(wrong[1:]))
