"""The earlier path of ``model.channel``, kept for adapters; new code imports from ``worker.core``."""

from .model.channel import *  # noqa: F403 - all of it, as before
