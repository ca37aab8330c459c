"""The earlier path of ``engine.defaults``, kept for adapters; new code imports from ``worker.core``."""

from .engine.defaults import *  # noqa: F403 - all of it, as before
