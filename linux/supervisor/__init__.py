"""The parent of every job: a small process with one thread that outlives the server."""
