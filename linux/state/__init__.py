"""The state directory: its layout, the histories of jobs, and the generations of supervisors."""
