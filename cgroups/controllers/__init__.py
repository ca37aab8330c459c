"""The controllers of cgroups(7), one module each."""
