"""The wheel is complete: build it, install it in a separate environment, and use it."""

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel as `pip install` does."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_contents(wheel):
    """The wheel contains every package and the .proto files, but no tests and no build files."""
    names = zipfile.ZipFile(wheel).namelist()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for package in packages:
        assert f"{package.replace('.', '/')}/__init__.py" in names
    assert {"worker/py.typed", "worker/proto/worker.proto"} <= set(names)
    assert [] == [name for name in names if name.startswith(("tests", "worker/tests", "worker/build"))]
    assert ["worker/__init__.py"] == [
        name for name in names if name.count("/") == 1 and name.endswith(".py")
    ]


def test_use(wheel, tmp_path):
    """The command and the library work when installed from the wheel, without the source tree."""
    home = tmp_path / "venv"
    # The program below adds the dependencies from the environment that runs the tests.
    venv.create(home, with_pip=True, system_site_packages=False)
    python = home / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True, cwd=tmp_path
    )
    site = next((Path(sys.prefix) / "lib").glob("python3*")) / "site-packages"
    program = f"""
import sys; sys.path.append({str(site)!r})
import worker, asyncio
from worker import JobSpec, Worker
from worker.core.testing import FakeLimiter, FakeSpawner, MemoryOutputStore
assert worker.__file__.startswith({str(home)!r}), worker.__file__
async def main():
    w = Worker(spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())
    job = await w.start(JobSpec("true"))
    print((await w.wait(job)).state)
asyncio.run(main())
from worker.cli.main import main
sys.argv = ["worker", "--help"]
main()
"""
    done = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout.startswith("exited\nUsage: worker"), done.stdout + done.stderr
