"""The messages: the .proto files, and the modules and descriptors generated from them (`make proto`)."""

from .quick_version import quick_version

with quick_version():
    import betterproto2 as betterproto2
