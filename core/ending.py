"""The earlier path of ``model.ending``, kept for adapters; new code imports from ``worker.core``."""

from .model.ending import *  # noqa: F403 - all of it, as before
