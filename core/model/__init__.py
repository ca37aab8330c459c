"""The values: what a job is, what limits it, how it ended."""
