"""The logs of our processes: one line format, one level, and a line for each step at the debug level."""
