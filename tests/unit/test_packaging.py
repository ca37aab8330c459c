"""The house: what is listed by hand agrees with what is there."""

import ast
import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
NO_PACKAGES = {"tests", "benchmarks", "docs", "build", "dist"}


def test_packages_are_all_listed() -> None:
    """A folder that is forgotten in pyproject.toml is missing from the wheel, and nowhere else."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = (path.parent.relative_to(ROOT).parts for path in ROOT.rglob("*.py"))
    packages = {
        ".".join(("worker", *parts))
        for parts in folders
        if not any(part.startswith(".") for part in parts) and NO_PACKAGES.isdisjoint(parts[:1])
    }
    assert sorted(packages) == listed


def test_every_package_has_an_init() -> None:
    """A folder without one would be another package for each tool that looks at it."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for package in listed:
        assert ROOT.joinpath(*package.split(".")[1:], "__init__.py").is_file()


def test_no_stray_modules_in_the_root() -> None:
    """The root is the package: whatever lies there would be in the wheel."""
    assert ["__init__.py"] == [path.name for path in ROOT.glob("*.py")]


def generator() -> ModuleType:
    """Load tests/generate_proto.py, which is no part of a package."""
    pytest.importorskip("grpc_tools", reason="grpcio-tools makes the modules; it comes with [dev]")
    spec = importlib.util.spec_from_file_location("generate_proto", ROOT / "tests" / "generate_proto.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_modules_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed is what the .proto files say; ``make proto`` brings it up to date."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # generate() adds to it, and is undone with this
    generated = generator().generate()
    assert {"worker.py", "health.py", "message_pool.py"} == generated.keys()
    for name, text in generated.items():
        committed = (ROOT / "proto" / name).read_text()
        assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(committed)), f"proto/{name}: make proto"
