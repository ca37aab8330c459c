"""The earlier path of ``model.job``, kept for adapters; new code imports from ``worker.core``."""

from .model.job import *  # noqa: F403 - all of it, as before
