"""Processes, output and journal on Linux. Light on purpose: the supervisor imports it."""
