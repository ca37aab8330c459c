"""Printing: answers, errors, job output, and the display of jobs."""
