"""The checks of `worker doctor`."""
