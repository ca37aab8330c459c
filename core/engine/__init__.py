"""The implementation of the Worker: the registry of jobs, and one module for each operation on them."""
