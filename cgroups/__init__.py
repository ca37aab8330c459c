"""The ResourceLimiter on Linux control groups: v1, v2 and hybrid."""
