"""Adapters of another distribution, installed and found by their entry points, work with ours."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest

from worker.cli.plugins import LIMITERS, OUTPUT_STORES, SPAWNERS
from worker.cli.setting_types import Plugin
from worker.cli.terminal.console import Failure
from worker.core.model.ending import Channel, Exited
from worker.core.model.job import JobId, JobSpec, new_job_id
from worker.core.ports import AppendedFile, Placement, ResourceLimiter, Sink
from worker.core.testing import (
    LimiterContract,
    OutputBench,
    OutputStoreContract,
    SpawnerBench,
    SpawnerContract,
)
from worker.linux.kernel.locks import holder_of
from worker.linux.spawner.spawner import SupervisorSpawner
from worker.linux.state.layout import Layout

from ..support.installation import Installation
from ..support.waiting import PATIENCE

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "tests" / "example_adapters"
PAGE = ROOT / "docs" / "how-to" / "adapters.md"

FILES = {"WORKER_OUTPUT_STORE": "example-files"}
PIDS = {"WORKER_LIMITER": "example-pids"}
SHIMS = {"WORKER_SPAWNER": "example-shims", "WORKER_LIMITER": "none", **FILES}

keeps_exit_codes = pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15),
    reason="before Linux 6.15 the kernel forgets the exit code of another process's child",
)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a copy of the example: the build leaves files beside the sources."""
    directory = tmp_path_factory.mktemp("workshop")
    unwanted = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(EXAMPLE, directory / "tests" / EXAMPLE.name, ignore=unwanted)
    return directory


@pytest.fixture(scope="module")
def site(workshop: Path) -> Iterator[Path]:
    """Install the example as its page says, and have this process find it."""
    directory = workshop / "site"
    command = next(each for each in shown_commands() if "pip install" in each)
    subprocess.run(command, shell=True, cwd=workshop, env=pip_environment(directory), check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        patch.setenv("PYTHONPATH", str(directory))
        yield directory


def pip_environment(target: Path) -> dict[str, str]:
    """Return an environment in which pip installs into a directory, from what is on this machine."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_TARGET": str(target),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # means: no isolation
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.fixture
def make(
    install: Callable[[Path], Installation], site: Path, tmp_path: Path
) -> Callable[..., Installation]:
    """Make workers with these settings, up."""

    def make(settings: dict[str, str]) -> Installation:
        installation = install(tmp_path / "home")
        installation.env |= {"PYTHONPATH": str(site), **settings}
        installation.worker("up")
        return installation

    return make


# --- the contracts


def checks_of(contract: type) -> list[str]:
    """Return the names of a suite's checks, to be run as tests of their own."""
    return [name for name in vars(contract) if name.startswith("check_")]


async def append(sink: Sink, data: bytes) -> None:
    """Write as a job does."""
    assert isinstance(sink, AppendedFile)
    with Path(sink.path).open("ab") as file:
        file.write(data)


@asynccontextmanager
async def file_store() -> AsyncIterator[OutputBench]:
    """Yield the store of the example."""
    with TemporaryDirectory() as directory:
        outputs = OUTPUT_STORES.make(Plugin("example-files"), Path(directory))
        yield OutputBench(outputs, append, bounds=False)
        await outputs.close()


@pytest.mark.parametrize("check", checks_of(OutputStoreContract))
async def test_the_store_of_the_example(check: str, site: Path) -> None:
    """The store of the example passes the suite of an OutputStore."""
    await getattr(OutputStoreContract(file_store), check)()


@asynccontextmanager
async def pids_limiter() -> AsyncIterator[ResourceLimiter]:
    """Yield the limiter of the example."""
    with TemporaryDirectory() as directory:
        try:
            limiter = LIMITERS.make(Plugin("example-pids"), Path(directory))
        except Failure as error:
            pytest.skip(str(error))
        yield limiter
        await limiter.close()


@pytest.mark.parametrize("check", checks_of(LimiterContract))
async def test_the_limiter_of_the_example(check: str, site: Path) -> None:
    """The limiter of the example passes the suite of a ResourceLimiter."""
    await getattr(LimiterContract(pids_limiter), check)()


@asynccontextmanager
async def shims() -> AsyncIterator[SpawnerBench]:
    """Yield the spawner of the example, with its store."""
    with TemporaryDirectory() as directory:
        outputs = OUTPUT_STORES.make(Plugin("example-files"), Path(directory))
        bench = SpawnerBench(outputs, lambda: SPAWNERS.make(Plugin("example-shims"), Path(directory)))
        yield bench
        await bench.spawner.close()
        await outputs.close()
        assert [] == list(Path(directory, "example-shims").iterdir())
        assert [] == list(Path(directory, "example-files").iterdir())


@pytest.mark.parametrize("check", checks_of(SpawnerContract))
async def test_the_spawner_of_the_example(check: str, site: Path) -> None:
    """The spawner of the example, with its store, passes the suite of a ProcessSpawner."""
    await getattr(SpawnerContract(shims), check)()


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield one state directory for all checks, and check that nothing is left in it."""
    path = tmp_path_factory.mktemp("state")
    yield path
    assert [] == list((path / "jobs").iterdir())
    assert [] == list((path / "example-files").iterdir())


@asynccontextmanager
async def supervised_files(state_dir: Path) -> AsyncIterator[SpawnerBench]:
    """Yield our spawner with the store of the example."""
    outputs = OUTPUT_STORES.make(Plugin("example-files"), state_dir)
    bench = SpawnerBench(outputs, lambda: SupervisorSpawner(state_dir))
    yield bench
    await bench.spawner.close()
    await outputs.close()


@pytest.mark.parametrize("check", checks_of(SpawnerContract))
async def test_our_spawner_with_the_store_of_the_example(check: str, site: Path, state_dir: Path) -> None:
    """SupervisorSpawner passes the suite of a ProcessSpawner with files that jobs append to."""
    await getattr(SpawnerContract(partial(supervised_files, state_dir)), check)()


# --- real jobs through the real server


@pytest.mark.parametrize("settings", [FILES, PIDS, SHIMS], ids=["files", "pids", "shims"])
def test_jobs_through_the_server(
    make: Callable[..., Installation], settings: dict[str, str], tmp_path: Path
) -> None:
    """Start, stream, stop, wait and remove; a job and its output survive the death of the server."""
    installation = make_or_skip(make, settings)
    gate, script = tmp_path / "gate", "echo one; cat $GATE; echo two >&2; exit 7"
    os.mkfifo(gate)
    job = installation.start("--env", f"GATE={gate}", "sh", "-c", script)
    forever = installation.start("sleep", "100000")
    split = installation.start("--split-output", "sh", "-c", "echo out; echo err >&2")
    assert b"no-such-command: No such file" in installation.run("start", "no-such-command").stderr

    assert job in installation.worker("debug", job)
    installation.kill(installation.server_pid())
    installation.worker("up")
    gate.write_bytes(b"-" * 100_000)
    assert 7 == installation.wait(job)["exit_code"]
    assert b"one\n" + b"-" * 100_000 + b"two\n" == installation.stream(job)
    assert {"output": {"first": 0, "end": 100_008}} == installation.query(job)["output"]
    installation.worker("stop", forever)
    assert 128 + signal.SIGTERM == installation.query(forever)["exit_code"]
    assert b"out\n" == installation.run("stream", "--stdout", split).stdout
    assert b"err\n" == installation.run("stream", "--stderr", split).stdout

    for each in (job, forever, split):
        installation.worker("remove", each)
    assert [] == files_of_jobs(installation.home)


def make_or_skip(make: Callable[..., Installation], settings: dict[str, str]) -> Installation:
    """Return a worker with these settings; skip where no cgroups can be made."""
    try:
        return make(settings)
    except AssertionError as error:
        if "no cgroup with the controller pids" in str(error):
            pytest.skip("no cgroup with the controller pids can be made here")
        raise


def files_of_jobs(home: Path) -> list[Path]:
    """Return what there is of any job below a WORKER_HOME."""
    return [path for path in home.rglob("*") if is_job_id(path.name)]


def is_job_id(name: str) -> bool:
    """Whether a name is a job id."""
    try:
        return bool(UUID(name))
    except ValueError:
        return False


def test_a_limit_of_another_limiter_holds(make: Callable[..., Installation]) -> None:
    """The supervisor places a job in the cgroup of the example; other limits are refused."""
    installation = make_or_skip(make, PIDS)
    job = installation.start("--pids", "7", "cat", "/proc/self/cgroup")
    installation.wait(job)
    (group,) = re.findall(rf"\S*/example-\w+/{job}", installation.stream(job).decode())
    assert group
    assert not any(Path("/sys/fs/cgroup").glob(f"**/{job}"))
    refused = installation.run("start", "--memory", "10M", "true")
    assert b"the limiter example-pids enforces --pids only" in refused.stderr


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {**SHIMS, "WORKER_OUTPUT_STORE": "recorder"},
            "the output store makes recorded-fifo sinks; the spawner accepts appended-file",
        ),
        (
            {**SHIMS, **PIDS},
            "the limiter needs the placement cgroups; the spawner accepts none",
        ),
    ],
)
def test_a_pair_that_does_not_fit(
    install: Callable[[Path], Installation],
    site: Path,
    tmp_path: Path,
    settings: dict[str, str],
    reason: str,
) -> None:
    """The server does not start, and names the kinds of both adapters."""
    installation = install(tmp_path / "home")
    installation.env |= {"PYTHONPATH": str(site), **settings}
    served = installation.run("serve")
    if b"no cgroup with the controller pids" in served.stderr:
        pytest.skip("no cgroup with the controller pids can be made here")
    assert 1 == served.returncode
    assert f"{reason}\n" in served.stderr.decode()
    assert "Traceback" not in served.stderr.decode()
    # For the end of the test: only a server that runs can stop jobs.
    installation.env |= {"WORKER_SPAWNER": "supervisor", "WORKER_LIMITER": "none", **FILES}


# --- crashes


class Machine:
    """A state directory, and our spawner on it with a store that keeps output elsewhere."""

    def __init__(self, home: Path, store: str) -> None:
        self.layout = Layout(home)
        self.outputs = OUTPUT_STORES.make(Plugin(store), home / "elsewhere")
        self.spawner = SupervisorSpawner(home)

    async def start(self, *command: str) -> JobId:
        """Start a job."""
        job, spec = new_job_id(), JobSpec(command[0], command[1:])
        sinks = await self.outputs.create(job, spec.channels)
        await self.spawner.spawn(job, spec, Placement(), sinks)
        return job

    def kill(self) -> None:
        """End supervisor and recorder as a crash would."""
        for lock in self.layout.supervisor.rglob("*lock"):
            installation = Installation(self.layout.state_dir)
            if holder := holder_of(lock):
                installation.kill(holder)

    async def close(self) -> None:
        """End the server's part."""
        await self.spawner.close()
        await self.outputs.close()


@keeps_exit_codes
@pytest.mark.parametrize("with_server", [True, False])
@pytest.mark.parametrize("store", ["example-files", "recorder"])
async def test_output_elsewhere_survives_supervisor_and_recorder(
    site: Path, tmp_path: Path, store: str, *, with_server: bool
) -> None:
    """The size in the end is exact, and the directory of the history is removed with the job."""
    gate, machine = tmp_path / "gate", Machine(tmp_path / "state", store)
    os.mkfifo(gate)
    job = await machine.start("sh", "-c", f"echo one; cat {gate}; exit 7")
    assert [str(job)] == [each.name for each in machine.layout.jobs.iterdir()]
    if not with_server:
        await machine.close()
    machine.kill()
    if not with_server:
        machine = Machine(tmp_path / "state", store)
    process = (await machine.spawner.recover())[job]
    await asyncio.to_thread(gate.write_bytes, b"-" * 1000)
    end = await asyncio.wait_for(process.wait(), PATIENCE)
    assert (Exited(7), {Channel.OUTPUT: 1004}) == (end.ending, dict(end.output))
    assert b"one\n" + b"-" * 1000 == await machine.outputs.read(job, Channel.OUTPUT, 0, 2000)
    await machine.spawner.forget(job)
    assert [] == list(machine.layout.jobs.iterdir())
    await machine.close()


async def test_what_an_interrupted_start_leaves_is_removed(site: Path, tmp_path: Path) -> None:
    """The directory that a supervisor made for a history, when it died before it recorded the process."""
    machine = Machine(tmp_path / "state", "example-files")
    for name in ([], ["history.unborn"]):
        directory = Path(machine.layout.job(new_job_id()))
        directory.mkdir()
        for each in name:
            (directory / each).touch()
    output = Path(machine.layout.job(new_job_id()), "output-0")
    output.parent.mkdir()
    output.touch()
    await machine.spawner.recover()
    assert [output.parent] == list(machine.layout.jobs.iterdir())
    await machine.close()


# --- the page


def shown_commands() -> list[str]:
    """Return the commands that the page shows."""
    return re.findall(r"^\$ (.*)$", PAGE.read_text(), re.MULTILINE)


def test_the_code_of_the_page() -> None:
    """Each file that the page shows is identical to that of the example."""
    shown = re.findall(
        r"`tests/example_adapters/([\w./]+)`:\n\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    names = {str(path.relative_to(EXAMPLE)) for path in (EXAMPLE / "example_adapters").glob("*.py")}
    assert {*names, "pyproject.toml"} == {name for name, _ in shown}
    for name, text in shown:
        assert (EXAMPLE / name).read_text() == text


def test_the_commands_of_the_page(
    workshop: Path, site: Path, install: Callable[[Path], Installation], tmp_path: Path
) -> None:
    """They run one after the other as they are shown, and print what is shown."""
    installation = install(tmp_path / "home")
    installation.env |= {
        **pip_environment(workshop / "again"),
        **{name: value for name, value in installation.env.items() if name.startswith("WORKER_")},
        "PYTHONPATH": str(site),
    }
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for step in block.removeprefix("$ ").split("\n$ "):
            command, _, printed = step.partition("\n")
            done = subprocess.run(
                command,
                shell=True,
                cwd=workshop,
                env=installation.env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert 0 == done.returncode, (command, done.stderr)
            if printed:
                assert printed.strip() == done.stdout.strip()
