"""What the Worker is made of: the registry of jobs, and one module for each step of their lives."""
