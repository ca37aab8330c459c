"""Interfaces of the kernel. Imports nothing else of this project."""
