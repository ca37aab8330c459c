"""The domain: values, the life of a job, ports and use cases. No I/O, no environment."""
