"""The state directory: where files lie, and what the history of a job says."""
