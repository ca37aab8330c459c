"""What is suspicious about a policy that can be used: a rule that allows more than it seems to."""

from collections.abc import Iterator, Mapping, Sequence

from .calls import CallGroup, Ids
from .rules import EVERY, REST, CommandPattern, Effect, Policy, Rule

LAUNCHERS = frozenset(
    (
        *("ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "sh", "tcsh", "zsh", "toybox"),
        *("awk", "gawk", "mawk", "nawk", "lua", "node", "nodejs", "perl", "php", "python", "ruby", "tclsh"),
        *("chroot", "chrt", "env", "flock", "ionice", "nice", "nohup", "nsenter", "parallel", "setarch"),
        *("setpriv", "setsid", "stdbuf", "strace", "taskset", "time", "timeout", "unshare", "watch"),
        *("xargs", "ld.so", "bwrap", "firejail", "gdb", "git", "screen", "tmux"),
        *("capsh", "doas", "pkexec", "runuser", "script", "su", "sudo", "start-stop-daemon"),
        *("at", "batch", "crontab", "machinectl", "systemd-inhibit", "systemd-nspawn", "systemd-run"),
        *("ctr", "docker", "kubectl", "lxc", "nerdctl", "podman", "qemu", "virsh"),
        *("ed", "emacs", "ex", "less", "man", "more", "nano", "sed", "vi", "view", "vim", "vimdiff"),
        *("apt", "apt-get", "cmake", "dnf", "dpkg", "make", "pip", "rpm", "yum"),
        *("cpio", "find", "rsync", "tar", "zip", "ftp", "nc", "ncat", "scp", "sftp", "socat", "ssh"),
        *("chmod", "chown", "cp", "dd", "install", "ln", "mount", "mv", "tee"),
    )
)
"""Programs that run a command of their arguments, of a file or of what is typed, or write any file."""

_LOADS_CODE = frozenset(
    ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "PYTHONPATH", "PATH")
)

_VERSION = "0123456789.-"


def warnings(policy: Policy, users: Mapping[str, Ids], default: Ids | None) -> Iterator[str]:
    """Yield what is suspicious; ``users`` are those that the policy names, ``default`` the default user."""
    starting = [
        rule for rule in policy.rules if rule.effect is Effect.ALLOW and CallGroup.START in rule.calls
    ]
    for rule in starting:
        yield from _of_commands(rule)
        yield from _of_environment(rule)
    yield from _shared_users(starting, users, default)
    for rule in policy.rules:
        for name in rule.start.users:
            if name != EVERY and name not in users:
                yield f"rule {rule.name!r}: users: there is no user {name!r}"


def _of_environment(rule: Rule) -> Iterator[str]:
    for text in rule.start.env.texts:
        if text.partition("=")[0] in _LOADS_CODE:
            yield f"rule {rule.name!r}: env: {text} lets the client run code of its own in the command"


def _shared_users(rules: Sequence[Rule], users: Mapping[str, Ids], default: Ids | None) -> Iterator[str]:
    """Yield the uids that jobs of several owners can have."""
    owners: dict[int, set[str]] = {}
    for rule in rules:
        names = rule.clients.names.texts or (EVERY,)
        uids = {users[name].uid for name in rule.start.users if name in users}
        for uid in uids | ({default.uid} if default else set()):
            owners.setdefault(uid, set()).update(names)
    for uid, found in sorted(owners.items()):
        if len(found) > 1 or any("*" in name for name in found):
            yield (
                f"jobs of several owners ({', '.join(sorted(found))}) can have the uid {uid}: "
                "such jobs can read each other's environment and kill each other"
            )


def is_launcher(path: str) -> bool:
    """Whether a program is known to run other commands."""
    name = path.rpartition("/")[2]
    return (
        name in LAUNCHERS
        or name.rstrip(_VERSION) in LAUNCHERS
        or name.startswith(("ld.so", "ld-linux", "ld-musl", "qemu-"))
    )


def _of_commands(rule: Rule) -> Iterator[str]:
    for command in rule.start.commands:
        if command.path == EVERY and command.args is None:
            yield f"rule {rule.name!r}: commands: * allows every command, and so every launcher"
        elif _any_arguments(command) and is_launcher(command.path):
            yield (
                f"rule {rule.name!r}: commands: {command.path} runs other commands or writes any file, "
                "and there is no list of its arguments"
            )


def _any_arguments(command: CommandPattern) -> bool:
    return command.args is None or command.args == (REST,)
