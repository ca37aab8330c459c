"""The audit: what is recorded, without secrets, and within bounds."""
