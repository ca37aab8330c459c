"""What every command prints as JSON is what docs/reference/json.md says: no key more, no key less."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest

from ..support.fixtures import Install
from ..support.installation import Installation

ROOT = Path(__file__).parents[2]
WORDS: dict[object, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    bool: (bool,),
    type(None): (type(None),),
    object: (object,),
}
NOT_HERE = {"IoLimitObject", "PressureObject", "NoAnswerObject"}
"""Objects that need a controller, PSI or a process that hangs; test_cli_show.py checks limits and usage."""

POLICY = '[[rule]]\nname = "ci"\ncalls = ["start"]\ncommands = ["/bin/true"]\n'


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    """The module that writes the page."""
    sys.path.insert(0, str(ROOT / "docs" / "generate"))
    yield import_module("printed_json")
    sys.path.remove(str(ROOT / "docs" / "generate"))


class Printed:
    """Runs commands, compares what they print with its type, and remembers which keys it has seen."""

    def __init__(self, installation: Installation, reference: Any) -> None:
        self.installation = installation
        self._reference = reference
        self.types: dict[str, Any] = reference.printed_by_command()
        self.commands: set[str] = set()
        self.seen: set[tuple[str, str]] = set()

    def run(self, *words: str, code: int = 0) -> Any:
        """Run a command that prints JSON, and return that."""
        name = max(
            (each for each in self.types if f"worker {' '.join(words)} ".startswith(f"{each} ")), key=len
        )
        form = [] if name == "worker inspect" else ["-o", "json"]
        end = name.count(" ")
        printed = json.loads(self.installation.worker(*words[:end], *form, *words[end:], code=code))
        self.compare(printed, self.types[name], name)
        self.commands.add(name)
        return printed

    def compare(self, value: Any, kind: Any, where: str) -> None:
        """Assert that a value is of a type, with all of its keys and no others."""
        origin, inner = get_origin(kind), get_args(kind)
        if self._reference.is_object(kind):
            fields = self._reference.fields_of(kind)
            always = {key for key, (_, _, required) in fields.items() if required}
            assert always <= value.keys() <= fields.keys(), where
            for key, each in value.items():
                self.seen.add((kind.__name__, key))
                self.compare(each, fields[key][0], f"{where}.{key}")
        elif origin is list:
            assert isinstance(value, list), where
            for each in value:
                self.compare(each, inner[0], f"{where}[]")
        elif origin is dict:
            assert isinstance(value, dict), where
            for each in value.values():
                self.compare(each, inner[1], f"{where}{{}}")
        elif origin in {Union, UnionType}:
            self._compare_one(value, inner, where)
        else:
            assert isinstance(value, WORDS[kind]), (where, value)

    def _compare_one(self, value: Any, kinds: tuple[Any, ...], where: str) -> None:
        """Assert that a value is of one of these types."""
        reasons = []
        for kind in kinds:
            try:
                return self.compare(value, kind, where)
            except (AssertionError, AttributeError) as error:
                reasons.append(error)
        raise AssertionError(where, reasons)


@pytest.fixture
def printed(tmp_path: Path, install: Install, reference: Any) -> Printed:
    """Runs commands of a worker that is not up, and has keys of its own."""
    installation = install(tmp_path / "home")
    return Printed(installation, reference)


def use_jobs(printed: Printed) -> None:
    """Run the commands about jobs."""
    options = ["--label", "a=b", "--name", "build", "--ulimit", "nofile=100:200"]
    job = printed.run("start", *options, "sleep", "1000")["id"]
    printed.run("query", job)
    printed.run("list")
    printed.run("inspect", job)
    printed.run("pause", job)
    printed.run("resume", job)
    printed.run("signal", job, "CONT")
    printed.run("kill", "-s", "CONT", job)
    printed.run("update", "--pids", "unlimited", job)
    printed.run("debug", job)
    other = printed.run("start", "-it", "sleep", "1000")["id"]
    printed.run("query", job, other)
    printed.run("stop", "--grace", "0", job, other)
    printed.run("wait", job)
    printed.run("remove", job)
    printed.run("rm", other)


def use_certificates(printed: Printed, home: Path) -> None:
    """Run the commands about certificates, in a home without any."""
    printed.installation = Installation(home)
    printed.run("certs", "init", "--key-type", "p256")
    pki = printed.run("context", "show", "default")["keys"]
    printed.run("certs", "request", "--key-type", "p256", "ann")
    printed.run("certs", "issue", "--csr", f"{pki}/ann.csr", "--role", "reader", "ann")
    printed.run("certs", "renew", "ann")
    printed.run("certs", "show")
    printed.run("certs", "crl")
    printed.run("certs", "revoke", "--serial", "4f9a31")


def use_server(printed: Printed) -> None:
    """Run the commands about the server."""
    for name in ("ping", "version", "whoami", "doctor"):
        printed.run(name)


def use_policies(printed: Printed, directory: Path) -> None:
    """Run the commands about policies: a call that is allowed, and one that no rule allows."""
    file = directory / "policy.toml"
    file.write_text(POLICY)
    printed.run("policy", "check", str(file))
    client = ["--policy", str(file), "--as", "ann", "--role", "writer"]
    printed.run("policy", "explain", *client, "--", "/bin/true")
    printed.run("policy", "explain", *client, "--call", "stop", code=1)


def use_other_machine(printed: Printed, directory: Path) -> None:
    """Run the commands of a client that gets access by a bundle."""
    bundle = str(directory / "bob.bundle")
    printed.installation.worker("invite", "bob", "--role", "writer", "--bundle", bundle)
    printed.run("join", "--bundle", bundle, "--context", "build")
    printed.run("context", "list")
    printed.run("context", "show", "build")


def test_every_command_prints_what_the_reference_says(
    printed: Printed, reference: Any, tmp_path: Path
) -> None:
    """Each command that prints JSON is run; each key in the reference is printed, and no other."""
    printed.run("up")
    use_jobs(printed)
    use_server(printed)
    use_other_machine(printed, tmp_path)
    use_policies(printed, tmp_path)
    printed.run("down")
    use_certificates(printed, tmp_path / "other")
    assert printed.types.keys() == printed.commands
    documented = {(each.__name__, key) for each in reference.objects() for key in reference.fields_of(each)}
    assert printed.seen <= documented
    assert NOT_HERE == {name for name, _ in documented - printed.seen} | NOT_HERE
