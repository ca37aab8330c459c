"""What `worker debug` shows of a job: files, processes, their open files, and what the job waits for."""
