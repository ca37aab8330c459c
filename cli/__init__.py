"""The `worker` command, its settings, and the composition root."""
