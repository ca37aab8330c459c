"""Example adapters for worker: an output store, a limiter and a spawner."""
