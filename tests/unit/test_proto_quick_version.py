"""betterproto2 is imported without importlib.metadata, and no other module is affected."""

import subprocess
import sys

import pytest


def run(script: str) -> str:
    """Run a script in a new process, in which nothing is imported yet, and return its output."""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_betterproto2_uses_only_version_at_import() -> None:
    """If this fails, betterproto2 uses more of importlib.metadata, or another module imports it."""
    script = "import sys, worker.proto.worker; print('importlib.metadata' in sys.modules)"
    assert "False\n" == run(script)


def test_the_version_is_correct() -> None:
    """betterproto2 compares the version of its compiler with the one that importlib.metadata returns."""
    script = """
import worker.proto, betterproto2
from importlib.metadata import version
print(betterproto2.__version__ == version("betterproto2"))
"""
    assert "True\n" == run(script)


def test_other_uses_get_the_real_module() -> None:
    """Other modules that are imported at the same time or later have all of importlib.metadata."""
    script = """
import sys
from worker.proto.quick_version import quick_version
with quick_version():
    from importlib import metadata as early
    found = early.version("click")
    print("email" in sys.modules)
    from importlib.metadata import PackageNotFoundError
    import importlib.metadata as late
print(found == late.version("click"), early.distributions is late.distributions)
print(late is sys.modules["importlib.metadata"])
try:
    early.version("no-such-distribution")
except PackageNotFoundError:
    print("not found")
"""
    assert "False\nTrue True\nTrue\nnot found\n" == run(script)


@pytest.mark.parametrize("beside", [[], ["thing-1.0.dist-info", "thing-2.0.dist-info"], ["thing.egg-info"]])
def test_an_ambiguous_name_is_left_to_the_real_module(beside: list[str]) -> None:
    """importlib.metadata decides for no directory, for several, and for other formats."""
    script = f"""
import os, sys, tempfile
from pathlib import Path
from worker.proto.quick_version import quick_version
with tempfile.TemporaryDirectory() as directory, quick_version():
    for name in {beside!r}:
        Path(directory, name).mkdir()
    sys.path.insert(0, directory)
    from importlib import metadata
    print("email" in sys.modules)
    try:
        print(metadata.version("thing"))
    except ImportError as error:
        print(type(error).__name__)
    print("email" in sys.modules)
"""
    assert ["False", "True"] == run(script).split()[::2]


def test_a_module_that_is_already_imported_stays() -> None:
    """If importlib.metadata is already imported, it is not replaced."""
    script = """
import sys, importlib.metadata
from worker.proto.quick_version import quick_version
with quick_version():
    print(sys.modules["importlib.metadata"] is importlib.metadata)
print(sys.modules["importlib.metadata"] is importlib.metadata)
"""
    assert "True\nTrue\n" == run(script)
