"""betterproto2 is imported without importlib.metadata: what that relies on, and that nobody can tell."""

import subprocess
import sys

import pytest


def run(script: str) -> str:
    """Run Python in a process of its own, where nothing is imported yet, and return what it prints."""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_betterproto2_asks_nothing_else_at_import() -> None:
    """If this fails, betterproto2 wants more of importlib.metadata, or something else imports it."""
    script = "import sys, worker.proto.worker; print('importlib.metadata' in sys.modules)"
    assert "False\n" == run(script)


def test_the_version_is_the_true_one() -> None:
    """What betterproto2 compares with that of its compiler is what importlib.metadata would have told."""
    script = """
import worker.proto, betterproto2
from importlib.metadata import version
print(betterproto2.__version__ == version("betterproto2"))
"""
    assert "True\n" == run(script)


def test_who_asks_for_more_gets_it() -> None:
    """Whatever else is imported at the same time, now or later, has the whole of importlib.metadata."""
    script = """
import sys
from worker.proto.quick_version import quick_version
with quick_version():
    from importlib import metadata as early
    told = early.version("click")
    print("email" in sys.modules)
    from importlib.metadata import PackageNotFoundError
    import importlib.metadata as late
print(told == late.version("click"), early.distributions is late.distributions)
print(late is sys.modules["importlib.metadata"])
try:
    early.version("no-such-distribution")
except PackageNotFoundError:
    print("not found")
"""
    assert "False\nTrue True\nTrue\nnot found\n" == run(script)


@pytest.mark.parametrize("beside", [[], ["thing-1.0.dist-info", "thing-2.0.dist-info"], ["thing.egg-info"]])
def test_where_a_name_does_not_tell_the_real_one_is_asked(beside: list[str]) -> None:
    """No directory, several of them and other forms are for importlib.metadata to judge."""
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


def test_once_it_is_imported_it_stays() -> None:
    """Where importlib.metadata is there already, it is left alone."""
    script = """
import sys, importlib.metadata
from worker.proto.quick_version import quick_version
with quick_version():
    print(sys.modules["importlib.metadata"] is importlib.metadata)
print(sys.modules["importlib.metadata"] is importlib.metadata)
"""
    assert "True\nTrue\n" == run(script)
