"""The recorder: a process that moves what jobs write from their FIFOs into segments."""
