"""A rate with a burst: what may happen often for a moment, and less often in the long run."""


class TokenBucket:
    """Allows ``burst`` events at once, and ``per_second`` more in each second after that.

    Times are in seconds, of any clock that does not run backwards.
    """

    __slots__ = ("_burst", "_per_second", "_time", "_tokens")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = burst
        self._time = now

    def take(self, now: float) -> bool:
        """Use a token; return False if there is none."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def seconds_to_next(self, now: float) -> float:
        """Return the time until there is a token; 0 if there is one."""
        self._refill(now)
        return max(0.0, (1 - self._tokens) / self._per_second)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._time) * self._per_second)
        self._time = now
