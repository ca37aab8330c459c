"""The earlier path of ``engine.retention``, kept for adapters; new code imports from ``worker.core``."""

from .engine.retention import *  # noqa: F403 - all of it, as before
