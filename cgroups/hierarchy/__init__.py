"""The cgroup hierarchies of this host: mounts, detection, and the delegated part."""
