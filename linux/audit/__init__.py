"""The audit log: records as lines of a file or of stdout, or as entries of journald."""
