"""What `worker debug` shows of a job: its files, its processes, who holds what, and what it waits for."""
