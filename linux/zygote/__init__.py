"""The zygote, a C program that clones jobs, and the supervisor's side of it."""
