"""The client of a server: connections, calls that are repeated, jobs, settings and contexts."""
