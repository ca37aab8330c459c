"""How hypothesis runs here: a test that takes its time beside other load has not failed."""

from hypothesis import settings

settings.register_profile("worker", deadline=None)
settings.load_profile("worker")
