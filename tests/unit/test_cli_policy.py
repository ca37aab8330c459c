"""`worker policy explain` of calls on jobs. tests/integration/test_policy.py has those of starts."""

import os
import re
import shlex
from pathlib import Path

import pytest

from worker.cli.main import run

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "policy.md").read_text()
RECIPES = re.findall(r"```toml\n# policy\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = re.findall(r"^\$ worker (policy explain .* --call .*)\n((?:[^$`].*\n)+)", PAGE, re.MULTILINE)
OWN = """
[[rule]]
name = "own"
clients = ["ci-*"]
calls = ["read", "stop", "update"]
limits.maximum = { memory = "1G" }

[[rule]]
name = "updates"
effect = "deny"
clients = ["ci-2"]
calls = ["update"]
"""


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit status of `worker policy explain`, and its output or the error."""
    status = run(["policy", "explain", *arguments])
    found = capsys.readouterr()
    return status, found.out or found.err


@pytest.mark.skipif(os.geteuid() != 0, reason="a server of another user needs no default_user")
def test_a_default_user_that_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As root `check` and `explain` say that they assume root, which a server does not."""
    file, assumed = tmp_path / "policy.toml", "no --default-user is given, so root is assumed"
    file.write_text(OWN)
    start = ["explain", "--policy", str(file), "--as", "ci-1", "--role", "writer"]
    for given in ([], ["--default-user", "nobody"]):
        run(["policy", "check", *given, str(file)])
        assert (assumed in capsys.readouterr().out) is not bool(given)
        run(["policy", *start, *given, "--", "true"])
        assert (assumed in capsys.readouterr().err) is not bool(given)
        run(["policy", *start, *given, "--call", "stop"])
        assert assumed not in capsys.readouterr().err


@pytest.mark.parametrize(("command", "output"), EXAMPLES)
def test_the_examples_of_the_page(
    command: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each prints what the page shows, one line for each rule."""
    monkeypatch.chdir(tmp_path)
    [on_call] = [each for each in RECIPES if "on-call reads" in each]
    Path("policy.toml").write_text(on_call)
    status, text = explained(capsys, *shlex.split(command)[2:])
    assert output == text
    assert status == (1 if output.startswith("denied") else 0)


def test_there_are_examples() -> None:
    """The page has a call that is allowed, and one that is denied."""
    assert {"allowed", "denied"} == {output.partition(":")[0] for _, output in EXAMPLES}


@pytest.mark.parametrize(
    ("client", "call", "line"),
    [
        ("ci-1", "stop", "allowed: rule 'own' of the policy allows it"),
        ("ci-1", "stop --owner ci-1", "allowed: rule 'own' of the policy allows it"),
        ("ci-1", "stop --owner bob", "does not match: jobs: on a job of 'bob'; the rule has own"),
        ("ci-1", "update --memory 1G", "allowed: rule 'own' of the policy allows it"),
        ("ci-1", "update --memory 2G", "limits: memory 2G; the rule has at most memory 1G"),
        (
            "ci-1",
            "update --memory 2G",
            "it; rule 'own' would with lower limits: --memory: 2G is above the rule's",
        ),
        ("ci-1", "update --memory unlimited", "limits: memory unlimited; the rule has at most memory 1G"),
        ("ci-2", "update --memory 1G", "denied: rule 'updates' of the policy denies it"),
        ("ci-2", "update --memory 0", "--memory: 0;"),
        ("bob", "read", "client: 'bob', issuer '', roles writer; the rule has clients ci-*"),
        ("ci-1", "admin", "calls: admin; the rule has read, stop, update"),
    ],
)
def test_calls(
    client: str, call: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decision is that of the server, and a rule that does not match names its first condition."""
    file = tmp_path / "policy.toml"
    file.write_text(OWN)
    who = ("--policy", str(file), "--as", client, "--role", "writer")
    status, text = explained(capsys, *who, "--call", *call.split())
    assert line in text
    assert status == (0 if text.startswith("allowed") else 1)


def test_the_role_is_an_upper_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader may not stop jobs, whatever the policy allows."""
    file = tmp_path / "policy.toml"
    file.write_text(OWN)
    who = ("--policy", str(file), "--as", "ci-1", "--role", "reader")
    assert 0 == explained(capsys, *who, "--call", "read")[0]
    status, text = explained(capsys, *who, "--call", "stop")
    assert (1, True) == (status, text.startswith("denied: no role of the client has the right to stop"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name the command, or use --call"),
        ("--call stop ls", "--call stop has no CMD and no options of a job\n"),
        ("--call stop --memory 1G", "--call stop has no CMD and no options of a job\n"),
        ("--call update --env A=1", "--call update has no CMD and no options of a job but limits"),
        ("--owner bob ls", "--call start is about no job"),
        ("--call admin --owner bob", "--call admin is about no job"),
    ],
)
def test_what_would_not_count_is_refused(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that has no meaning for the call is an error of usage, and so is a missing command."""
    who = ("--policy", str(tmp_path / "none"), "--as", "ci-1", "--role", "writer")
    status, text = explained(capsys, *who, *arguments.split())
    assert (2, True) == (status, message in text)
