"""The base class of the contract suites."""

from collections.abc import Callable, Coroutine


class Contract:
    """A suite of checks, each an ``async def check_...`` whose docstring states the rule."""

    def checks(self) -> list[Callable[[], Coroutine[None, None, None]]]:
        """Return all checks; run each on its own, for instance with ``asyncio.run(check())``."""
        return [getattr(self, name) for name in dir(self) if name.startswith("check_")]
