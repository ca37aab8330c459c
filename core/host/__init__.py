"""Text formats and names of a Linux host, as pure functions: shared by cgroups/ and linux/."""
