"""Some knowledge belongs in one module: mountinfo, names of units, walks over cgroup trees."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("api", "cgroups", "cli", "client", "core", "linux")
MODULES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def strings(tree: ast.Module) -> Iterator[str]:
    """Yield the string literals of a module, without docstrings."""
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def imported(tree: ast.Module) -> set[str]:
    """Return the last parts of the names of all imported modules."""
    names = (node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {name.rpartition(".")[2] for name in names}


def calls(tree: ast.Module) -> set[str]:
    """Return the functions and methods that a module calls, as they are written."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_one_module_parses_mountinfo() -> None:
    """Only core/host/mountinfo.py knows the separator of its fields; readers of the file import it."""
    assert ["core/host/mountinfo.py"] == [name for name, tree in MODULES.items() if " - " in strings(tree)]
    readers = [
        name for name, tree in MODULES.items() if any("/mountinfo" in text for text in strings(tree))
    ]
    assert readers
    assert [] == [name for name in readers if "mountinfo" not in imported(MODULES[name])]


# Sentences for users may name a unit; names and patterns contain no blank.
UNIT = re.compile(r"\S*\.(scope|service|slice)\b\S*", re.ASCII)


def test_one_module_knows_the_names_of_units() -> None:
    """Only core/host/unit_names.py knows how units of systemd and cgroups of workers are named."""
    names = [
        name
        for name, tree in MODULES.items()
        if any(UNIT.fullmatch(text) or text.startswith("worker-server") for text in strings(tree))
    ]
    assert ["core/host/unit_names.py"] == names


def test_one_module_of_each_package_walks_cgroup_trees() -> None:
    """The limiter and the supervisor have one each: see cgroup-walkers.md."""
    walkers = [
        name
        for name, tree in MODULES.items()
        if name.startswith(("core/", "cgroups/", "linux/supervisor/", "linux/kernel/"))
        and any(re.search(r"\b(os\.walk|os\.fwalk|scandir|rglob|iterdir)$", call) for call in calls(tree))
    ]
    assert ["cgroups/tree.py", "linux/kernel/cgroup_tree.py"] == walkers
