"""How many examples a property test tries."""

from hypothesis import settings

FULL = 100
"""Examples of a test with default settings in the `full` profile of tests/unit/conftest.py."""


def examples(count: int) -> int:
    """Return `count` scaled to the loaded hypothesis profile, and at least 1.

    An explicit `max_examples` overrides the profile, so `--hypothesis-profile=quick` would not reduce it.
    """
    return max(1, count * settings().max_examples // FULL)
