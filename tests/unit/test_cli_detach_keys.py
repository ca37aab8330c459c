"""The keys that detach: how they are written, and how they are found in what is typed."""

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.cli.commands.attach import attach
from worker.cli.options.detach_keys import parse_detach_keys
from worker.cli.terminal.keyboard import DetachKeys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("ctrl-a,ctrl-z,Ctrl-C", b"\x01\x1a\x03"),
        ("~,.", b"~."),
        ("a", b"a"),
        ("", b""),
    ],
)
def test_keys_are_written_as_for_docker(text: str, expected: bytes) -> None:
    """Single characters and control keys, separated by commas; an empty text turns detaching off."""
    assert expected == parse_detach_keys(text)


@pytest.mark.parametrize("text", ["ctrl-1", "ctrl-", "ab", ",", "a,,b", "é", "ctrl-p, ctrl-q"])
def test_unknown_keys_are_named(text: str) -> None:
    """The error states what can be written."""
    with pytest.raises(ValueError, match=r"unknown key .*; write single characters and ctrl-a to ctrl-z"):
        parse_detach_keys(text)


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [([], None, b"\x10\x11"), ([], "~", b"~"), ([], "", b""), (["--detach-keys", "a,b"], "~", b"ab")],
)
def test_an_option_or_a_variable(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str | None, expected: bytes
) -> None:
    """The option has precedence over WORKER_DETACH_KEYS."""
    if variable is not None:
        monkeypatch.setenv("WORKER_DETACH_KEYS", variable)
    context = attach.make_context("attach", [*arguments, "JOB"])
    assert expected == context.params["detach_keys"]


def test_an_invalid_option() -> None:
    """It is a usage error."""
    with pytest.raises(click.UsageError, match="--detach-keys ctrl-1: unknown key 'ctrl-1'"):
        attach.make_context("attach", ["--detach-keys", "ctrl-1", "JOB"])


KEYS = st.lists(st.sampled_from(b"abc"), max_size=30).map(bytes)


@given(sequence=KEYS.filter(lambda keys: len(keys) < 5), typed=KEYS, sizes=st.lists(st.integers(1, 4)))
@example(sequence=b"aab", typed=b"aaab", sizes=[])
@example(sequence=b"abab", typed=b"abaabab", sizes=[3, 2])
def test_the_sequence_is_found_in_any_pieces(sequence: bytes, typed: bytes, sizes: list[int]) -> None:
    """Exactly what precedes it is passed on; of what may be its beginning, nothing before it is decided."""
    detach_keys, passed, rest = DetachKeys(sequence), b"", typed
    while rest and not detach_keys.found:
        size = sizes.pop() if sizes else len(rest)
        passed += detach_keys.pass_on(rest[:size])
        rest = rest[size:]
    at = typed.find(sequence) if sequence else -1
    assert (at >= 0) == detach_keys.found
    if at >= 0:
        assert typed[:at] == passed
    else:
        begun = max(n for n in range(len(sequence) + 1) if typed.endswith(sequence[:n]))
        assert typed[: len(typed) - begun] == passed
