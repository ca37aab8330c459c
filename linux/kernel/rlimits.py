"""The numbers of setrlimit(2), which differ between architectures."""

import resource

NUMBERS = {
    "as": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,  # Python lacks it: only Linux 2.4 enforced it
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}
"""By the names of prlimit(1)."""

INFINITY = (1 << 64) - 1
"""RLIM_INFINITY of the kernel, which Python writes as -1."""


def value(limit: int | None) -> int:
    """Return a limit as the kernel writes it; None: unlimited."""
    return INFINITY if limit is None else limit


def bound(name: str) -> str:
    """Return what bounds the hard limit that this process, and its children, can set."""
    number = NUMBERS[name]
    hard = resource.getrlimit(number)[1]
    text = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    found = f"without CAP_SYS_RESOURCE it cannot exceed that of the worker, {text}"
    if number == resource.RLIMIT_NOFILE:
        with open("/proc/sys/fs/nr_open") as nr_open:
            found += f", and never fs.nr_open, {nr_open.read().strip()}"
    return found


_OWN_DESCRIPTORS = 40
"""Of a supervisor, for servers, zygote, recorder and logs, and for files open briefly: a clone, a check."""

_DESCRIPTORS_OF_A_JOB = 6
"""In a supervisor at most: its history, three FIFOs, its spool, and the events of its cgroup at its end."""


def most_jobs() -> int:
    """Return how many jobs the open-file limit of this process allows a supervisor."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, limit - _OWN_DESCRIPTORS) // _DESCRIPTORS_OF_A_JOB
