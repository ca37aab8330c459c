"""The patterns of the policy."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.policy.globs import name_glob, path_glob

TEXT = st.text("ab-/.*", max_size=8)


def naive(pattern: str, text: str, *, path: bool) -> bool:
    """Match by trying every length for each star."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        lengths = range(len(text) + 1)
        return any(
            naive(pattern[1:], text[n:], path=path) for n in lengths if not path or "/" not in text[:n]
        )
    return text[:1] == pattern[0] and naive(pattern[1:], text[1:], path=path)


def naive_path(pattern: str, text: str) -> bool:
    """The rules of an argument, one by one."""
    if not naive(pattern, text, path=True):
        return False
    if text.startswith("-") and not pattern.startswith("-"):
        return False
    pairs = zip(pattern.split("/"), text.split("/"), strict=True)
    return all(part not in {"", ".", ".."} or each == part for each, part in pairs)


@given(TEXT, TEXT)
def test_paths_match_as_their_rules_state(pattern: str, text: str) -> None:
    """A pattern of a path matches as the slow definition of it does."""
    assert naive_path(pattern, text) == path_glob(pattern)(text)


@given(TEXT, TEXT)
def test_names_match_as_their_rules_state(pattern: str, text: str) -> None:
    """A pattern of a name matches as the slow definition of it does."""
    assert naive(pattern, text, path=False) == name_glob(pattern)(text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_escaped_text_matches_only_itself(text: str, other: str) -> None:
    """A text in which each character is escaped matches itself and nothing else."""
    pattern = "".join(f"\\{character}" for character in text)
    for glob in (path_glob, name_glob):
        assert glob(pattern)(text)
        assert (other == text) == glob(pattern)(other)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("/var/log/*", "/var/log/../../etc/shadow"),
        ("/var/log/*", "/var/log/.."),
        ("/srv/*/build", "/srv/../build"),
        ("/srv/*", "/srv/"),
        ("*", "-rf"),
        ("*", "--file=x"),
        ("*", "a/b"),
        ("*", ""),
        ("*", ".."),
        ("/var/log/messages*", "/var/log/messages /etc/shadow"),
        ("-*", "x"),
    ],
)
def test_what_a_star_does_not_match(pattern: str, text: str) -> None:
    """A star matches no slash, no leading dash, no empty component and no dots."""
    assert not path_glob(pattern)(text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("-*", "-rf"),
        ("--file=*", "--file=.."),
        ("*.log", "a.log"),
        ("*-*", "a-b"),
        ("/a/*/c", "/a/b/c"),
        ("", ""),
    ],
)
def test_what_a_star_matches(pattern: str, text: str) -> None:
    """A star matches any other characters, and what the pattern itself contains is literal."""
    assert path_glob(pattern)(text)


@pytest.mark.parametrize("pattern", ["a?", "[ab]", "a\\"])
def test_patterns_of_other_programs_are_rejected(pattern: str) -> None:
    """Characters that are special elsewhere are an error: taken literally they would match nothing."""
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        path_glob(pattern)


def test_a_match_takes_linear_time() -> None:
    """A pattern that takes a regular expression exponential time is matched on a megabyte."""
    pattern = "*a" * 30 + "b"
    assert not path_glob(pattern)("a" * (1 << 20))
    assert path_glob("*".join(string.ascii_lowercase))("".join(c * 40000 for c in string.ascii_lowercase))
