"""private-parts.md lists every private part of a library that the code uses, and nothing else.

A private part is found in the syntax tree of each module, as one of:
- an underscore name that is imported, passed as a keyword, or accessed on an object other than self (our
  own classes have no friends, so it belongs to a library),
- an underscore name on self or cls, or of a method, that a base class from a library has as well,
- an underscore name in a constant argument of getattr, hasattr or setattr,
- a dunder name that Python itself does not define,
- anything imported from a module or class that its library does not document,
- a module that is replaced in sys.modules.
"""

import ast
import importlib
import inspect
import re
import textwrap
import tomllib
import types
from collections.abc import AsyncGenerator, Iterator
from functools import cache
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "explanation" / "private-parts.md"
GENERATED = {"proto/worker.py", "proto/health.py", "proto/reflection.py", "proto/message_pool.py"}

UNDOCUMENTED = {
    "asyncio.sslproto",
    "betterproto2.FieldMetadata",
    "betterproto2.PACKED_TYPES",
    "grpclib.const.Handler",
    "grpclib.metadata.decode_timeout",
    "grpclib.protocol",
    "grpclib.server.Handler",
    "h2.stream",
}
"""Modules and names without an underscore that do not occur in the documentation of their library."""

DOCUMENTED = {"_exit", "_fields_", "_replace", "_asdict", "_make", "__content_subtype__"}
"""Names with an underscore that do: those of os, ctypes structures, named tuples and grpclib's codecs."""

_OF_PYTHON = {
    name
    for each in (object, type, int, dict, str, types.FunctionType, types.ModuleType, types.CoroutineType)
    for name in dir(each)
} | {
    *dir(AsyncGenerator),
    *dir(BaseException),
    "__aenter__",
    "__aexit__",
    "__path__",
    "__all__",
    "__members__",
}

Part = tuple[str, str]
"""A file and the private name that it uses."""


def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the distribution except the generated ones."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [ROOT.joinpath(*package.split(".")[1:]) for package in packages]
    paths = {str(path.relative_to(ROOT)): path for folder in folders for path in folder.glob("*.py")}
    return {name: ast.parse(path.read_text()) for name, path in paths.items() if name not in GENERATED}


def is_private(name: str) -> bool:
    """Whether a name is private to a library by its form."""
    if name in DOCUMENTED or not name.startswith("_") or name == "_":
        return False
    return not (name.endswith("__") and name in _OF_PYTHON)


def is_self(node: ast.expr) -> bool:
    """Whether an expression is self, cls or super()."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def used_anywhere(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that a module uses, other than through inheritance."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), level=0):
                yield from undocumented(module, [each.name for each in node.names])
                yield from (each.name for each in node.names if is_private(each.name))
            case ast.Import():
                for each in node.names:
                    yield from undocumented(each.name, [])
                    yield from filter(is_private, each.name.split("."))
            case ast.Attribute(attr=name) if is_private(name):
                if name.endswith("__") or not is_self(node.value):
                    yield name
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                yield from undocumented(module, [name])
            case ast.Call():
                yield from (each.arg for each in node.keywords if each.arg and is_private(each.arg))
                yield from named_by_text(node)
            case ast.Subscript(value=ast.Attribute(attr="modules"), ctx=ast.Store()):
                yield "sys.modules"


def undocumented(module: str, names: list[str]) -> Iterator[str]:
    """Yield what is imported and not documented by its library."""
    if module in UNDOCUMENTED:
        yield module
    yield from (f"{module}.{name}" for name in names if f"{module}.{name}" in UNDOCUMENTED)


def named_by_text(call: ast.Call) -> Iterator[str]:
    """Yield the private name in getattr(object, "name") and its like."""
    if isinstance(call.func, ast.Name) and call.func.id in {"getattr", "hasattr", "setattr"}:
        name = call.args[1]
        if isinstance(name, ast.Constant) and is_private(str(name.value)):
            yield str(name.value)


def inherited(file: str, tree: ast.Module) -> Iterator[str]:
    """Yield the private names of a library's class that a class of ours uses or overrides."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.bases:
            theirs = private_names_of_bases(file, node.name)
            yield from (name for name in names_on_self(node) if name in theirs)


def names_on_self(tree: ast.AST) -> set[str]:
    """Return the private names of methods, of assignments in the class body, and on self."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and is_self(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.ClassDef):
            targets = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
            targets += [
                target for each in node.body if isinstance(each, ast.Assign) for target in each.targets
            ]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if is_private(name)}


def private_names_of_bases(file: str, name: str) -> set[str]:
    """Return the private names that the libraries' base classes of a class define or use."""
    module = ".".join(["worker", *Path(file).with_suffix("").parts])
    cls = getattr(importlib.import_module(module), name, None)
    names: set[str] = set()
    for base in cls.__mro__ if isinstance(cls, type) else ():
        if not base.__module__.startswith("worker.") and base is not object:
            names |= private_names_of(base)
    return names


@cache
def private_names_of(base: type) -> set[str]:
    """Return the private names of a library's class: its attributes, and those on self in its source."""
    names = {name for name in vars(base) if is_private(name)}
    try:
        return names | names_on_self(ast.parse(textwrap.dedent(inspect.getsource(base))))
    except (TypeError, OSError):  # written in C
        return names


def used() -> set[Part]:
    """Return all private parts that the code uses."""
    return {
        (file, name)
        for file, tree in modules().items()
        for name in (*used_anywhere(tree), *inherited(file, tree))
    }


def listed() -> list[Part]:
    """Return the private parts in the table of the page: names in the first column, files in the second."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [
        (file, name)
        for names, files, *_ in rows
        for file in re.findall(r"`([^`]+)`", files)
        for name in re.findall(r"`([^`]+)`", names)
    ]


def test_the_page_lists_what_the_code_uses() -> None:
    """A new private part needs a row with its reason; a part that is no longer used has none."""
    parts = listed()
    assert len(set(parts)) == len(parts)
    assert set(parts) == used()


def test_every_row_has_a_reason_and_a_replacement() -> None:
    """No column is empty."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        assert 5 == len([cell for cell in row if cell.strip()]), row


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import _thread", {"_thread"}),
        ("from x import _y, z", {"_y"}),
        ("x._y", {"_y"}),
        ("x.__connect__()", {"__connect__"}),
        ("x.__class__.__name__", set()),
        ("f(_y=1)", {"_y"}),
        ("getattr(x, '_y')", {"_y"}),
        ("from grpclib.protocol import Stream", {"grpclib.protocol"}),
        ("from grpclib.server import Handler", {"grpclib.server.Handler"}),
        ("import betterproto2\nbetterproto2.FieldMetadata", {"betterproto2.FieldMetadata"}),
        ("from grpclib.server import Stream", set()),
        ("import sys\nsys.modules['x'] = 1", {"sys.modules"}),
        ("def f(x): return x[0]._y()", {"_y"}),
        ("class A:\n    def f(self): return self._y", set()),
        ("import os\nos._exit(0)", set()),
    ],
)
def test_what_counts_as_private(source: str, found: set[str]) -> None:
    """The search finds each kind of use, and nothing else."""
    assert found == set(used_anywhere(ast.parse(source)))


def test_private_parts_of_base_classes() -> None:
    """A subclass uses a private part through self or by overriding it."""
    source = "class Mine(Thread):\n    def _bootstrap(self): return self._target, self._mine"
    assert {"_bootstrap", "_target"} == names_on_self(ast.parse(source)) & private_names_of(Thread)
