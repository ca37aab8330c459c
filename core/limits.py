"""The earlier path of ``model.limits``, kept for adapters; new code imports from ``worker.core``."""

from .model.limits import *  # noqa: F403 - all of it, as before
