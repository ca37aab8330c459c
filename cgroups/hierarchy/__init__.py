"""The cgroup hierarchies of this host: where they are mounted, and which part was delegated."""
