"""What all contract suites have in common."""

from collections.abc import Callable, Coroutine


class Contract:
    """A suite of checks, each an ``async def check_...`` whose docstring states the promise."""

    def checks(self) -> list[Callable[[], Coroutine[None, None, None]]]:
        """Return all checks, to be run one by one, for instance by ``asyncio.run(check())``."""
        return [getattr(self, name) for name in dir(self) if name.startswith("check_")]
