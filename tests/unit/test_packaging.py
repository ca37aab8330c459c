"""The lists in pyproject.toml match the repository, and generated files are up to date."""

import ast
import importlib
import importlib.util
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
NO_PACKAGES = {"tests", "benchmarks", "docs", "build", "build_backend", "dist"}
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def script(name: str) -> ModuleType:
    """Load a script of tests/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packages_are_all_listed() -> None:
    """Every folder with Python code is listed in pyproject.toml; otherwise the wheel lacks it."""
    folders = (path.parent.relative_to(ROOT).parts for path in ROOT.rglob("*.py"))
    packages = {
        ".".join(("worker", *parts))
        for parts in folders
        if not any(part.startswith(".") for part in parts) and NO_PACKAGES.isdisjoint(parts[:1])
    }
    assert sorted(packages) == PYPROJECT["tool"]["setuptools"]["packages"]


def test_every_package_has_an_init() -> None:
    """Every package has an __init__.py; tools disagree about folders without one."""
    for package in PYPROJECT["tool"]["setuptools"]["packages"]:
        assert ROOT.joinpath(*package.split(".")[1:], "__init__.py").is_file()


def test_no_stray_modules_in_the_root() -> None:
    """The root contains no other module: the root is the package, so the wheel would include it."""
    assert ["__init__.py"] == [path.name for path in ROOT.glob("*.py")]


def backend(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a module of the build backend, as a build does."""
    monkeypatch.syspath_prepend(ROOT / "build_backend")
    return importlib.import_module(name)


def test_every_c_file_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend compiles every C file of the zygote, without a warning."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    log, compiler = tmp_path / "log", tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec cc -Werror "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    module, machine = (
        backend("zygote_compiler", monkeypatch),
        backend("wheel_kind", monkeypatch).wheel_kind(),
    )
    module.compile_zygote(machine, tmp_path / "zygote")
    compiled = {line.split()[-1] for line in log.read_text().splitlines() if " -c " in line}
    assert {str(file) for file in (ROOT / "linux" / "zygote").glob("*.c")} == compiled
    assert (tmp_path / "zygote").stat().st_mode & 0o111


def test_a_compiler_for_another_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CC may name a compiler that makes programs for another machine; its program is not used."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    monkeypatch.setenv("CC", "cc")
    module, machine = (
        backend("zygote_compiler", monkeypatch),
        backend("wheel_kind", monkeypatch).wheel_kind(),
    )
    assert module.compiles(machine)
    (other,) = module.ARCHITECTURES.keys() - {machine}
    with pytest.raises(module.CompilationFailed, match="Tried:\ncc: it compiles for another architecture"):
        module.compile_zygote(other, tmp_path / "zygote")
    assert [] == list(tmp_path.iterdir())


def test_the_sdist_has_what_a_build_needs() -> None:
    """MANIFEST.in includes the C files, their headers and the build backend."""
    included = set()
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        command, directory, *patterns = line.split()
        if command == "recursive-include":
            files = (ROOT / directory).rglob("*") if (ROOT / directory).is_dir() else ()
            included |= {each for each in files if any(fnmatch(each.name, every) for every in patterns)}
    for directory, suffixes in (("linux/zygote", {".c", ".h"}), ("build_backend", {".py"})):
        needed = {file for file in (ROOT / directory).iterdir() if file.suffix in suffixes}
        assert needed
        assert needed <= included


def test_the_client_has_no_part_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module that imports worker.linux or worker.cgroups is left out of the wheel of the client."""
    grimp = pytest.importorskip("grimp", reason="import-linter, of the group `lint`, brings it")
    graph = grimp.build_graph("worker")
    parts = backend("wheel_kind", monkeypatch).SERVER_PARTS
    assert sorted(parts) == list(parts)
    left_out = set()
    for part in parts:
        assert (ROOT / part).exists()
        module = "worker." + part.removesuffix(".py").replace("/", ".")
        left_out |= {module, *graph.find_descendants(module)}
    for module in left_out:
        importers = graph.find_modules_that_directly_import(module)
        assert importers <= left_out, (
            f"{module} is imported by {importers - left_out}; list these in SERVER_PARTS"
        )


def test_the_dev_extra_is_the_dev_group() -> None:
    """The extra `dev` and the dependency group `dev` list the same requirements."""
    extra = PYPROJECT["project"]["optional-dependencies"]["dev"]
    assert sorted(script("pythons").requirements("dev")) == sorted(extra)


def test_the_classifiers_name_the_tested_pythons() -> None:
    """The classifiers are the versions that `make pythons` tests; the first is the oldest that installs."""
    pythons = script("pythons")
    tested = [f"3.{minor}" for minor in pythons.MINORS]
    prefix = "Programming Language :: Python :: 3."
    classifiers = PYPROJECT["project"]["classifiers"]
    assert tested == [f"3.{name.removeprefix(prefix)}" for name in classifiers if name.startswith(prefix)]
    assert f">={tested[0]}" == PYPROJECT["project"]["requires-python"]


def test_a_python_that_does_not_run_is_skipped(tmp_path: Path) -> None:
    """An interpreter that fails, such as a pyenv shim of an unselected version, is not used."""
    pythons = script("pythons")
    broken, working = tmp_path / "broken" / "python3.13", tmp_path / "working" / "python3.13"
    for path, body in ((broken, "exit 127"), (working, "echo 3.13.7")):
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    environ = {"PATH": f"{broken.parent}:{working.parent}", "PYENV_ROOT": str(tmp_path)}
    assert pythons.Interpreter(working, "3.13.7") == pythons.find(13, environ)
    assert None is pythons.find(14, environ)


def test_help_lists_every_target() -> None:
    """`make help` describes each target of the Makefile, and `make test` runs what CI needs."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    described = [line.split()[0] for line in done.stdout.splitlines() if len(line.split()) > 1]
    assert sorted(phony.split()) == sorted(described)
    hooks = re.findall(r"entry: make (\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert ["lint", "types", "layers"] == hooks
    (recipe,) = re.findall(r"^test: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    suites = [word for word in recipe.split() if word in phony.split()]
    expected = [*hooks, "docs", "wheel", "unit", "pythons", "integration", "crash", "guest"]
    assert sorted(expected) == sorted(suites)


def test_generated_modules_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed modules are what the .proto files generate; ``make proto`` updates them."""
    pytest.importorskip("grpc_tools", reason="grpcio-tools generates the modules; it comes with [dev]")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # generate() prepends to PATH; monkeypatch restores it
    generated = script("generate_proto").generate()
    assert {"worker.py", "health.py", "reflection.py", "message_pool.py"} == generated.keys()
    for name, text in generated.items():
        committed = (ROOT / "proto" / name).read_text()
        assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(committed)), f"proto/{name}: make proto"


def test_the_descriptors_are_up_to_date() -> None:
    """Server reflection sends what the .proto files say; ``make proto`` updates it."""
    pytest.importorskip("grpc_tools", reason="grpcio-tools makes the descriptors; it comes with [dev]")
    generator = script("generate_proto")
    assert generator.descriptors() == (ROOT / "proto" / generator.DESCRIPTORS).read_bytes()
