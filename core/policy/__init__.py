"""The policy: rules that decide who may call what, and start which commands; no I/O."""
