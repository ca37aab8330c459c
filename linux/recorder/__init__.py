"""The recorder: a process that moves the output of jobs from their FIFOs into segments."""
