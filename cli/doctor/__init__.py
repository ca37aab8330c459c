"""What `worker doctor` checks."""
