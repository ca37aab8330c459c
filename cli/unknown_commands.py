"""What to type instead of a command that worker does not have: words of docker, kubectl and systemd.

No suggestion ends, removes or changes anything: who mistypes a command may type the suggestion unread.
"""

from collections.abc import Collection
from difflib import get_close_matches

_NEVER_SUGGESTED = frozenset(
    {"down", "kill", "pause", "remove", "resume", "rm", "serve", "signal", "stop", "up", "update"}
)

_RUN_IN_TERMINAL = "a job is one command; `worker run -it bash` opens a shell on the machine of the server"
_DETAILS = "`worker query -o wide JOB` shows what a job uses, `worker list` shows all jobs"
_FILES = (
    "jobs see the files of the machine: `worker run -i tee FILE < file` writes, `worker run cat FILE` reads"
)
_NO_IMAGES = "jobs have no images: a command runs as it is on the machine of the server"
_EVENTS = "`worker wait JOB` returns when a job has finished, `worker stream JOB` follows its output"
_AGAIN = "a job runs once: `worker start CMD` starts another one"
_CREDENTIALS = "`worker whoami` shows who you are to the server, `worker certs` makes certificates"
_SERVICE = "`worker up` starts a server of your own, `worker doctor` shows whether it answers"

_INSTEAD = {
    "exec": _RUN_IN_TERMINAL,
    "shell": _RUN_IN_TERMINAL,
    "ssh": _RUN_IN_TERMINAL,
    "top": _DETAILS,
    "stats": _DETAILS,
    "get": _DETAILS,
    "describe": _DETAILS,
    "status": "`worker query JOB` prints the status of a job, `worker doctor` that of the server",
    "events": _EVENTS,
    "watch": _EVENTS,
    "follow": _EVENTS,
    "tail": "`worker logs --tail 100 -f JOB` prints the last lines and follows",
    "cp": _FILES,
    "build": _NO_IMAGES,
    "commit": _NO_IMAGES,
    "image": _NO_IMAGES,
    "images": _NO_IMAGES,
    "pull": _NO_IMAGES,
    "push": _NO_IMAGES,
    "apply": _AGAIN,
    "create": _AGAIN,
    "restart": _AGAIN,
    "rerun": _AGAIN,
    "schedule": _AGAIN,
    "rename": "the name of a job is given at its start: `worker start --name NAME CMD`",
    "cancel": "`worker --help` lists the commands that end a job",
    "delete": "`worker --help` lists the commands that remove a job",
    "prune": "finished jobs are removed by age and number: see retention in `man worker.toml`",
    "login": _CREDENTIALS,
    "auth": _CREDENTIALS,
    "config": _CREDENTIALS,
    "info": _SERVICE,
    "daemon": _SERVICE,
    "server": _SERVICE,
    "node": "a server manages one machine; `worker list` shows its jobs",
    "nodes": "a server manages one machine; `worker list` shows its jobs",
    "help": "`worker --help` lists the commands, `worker COMMAND --help` describes one",
}


def instead_of(name: str, commands: Collection[str]) -> str:
    """Return what the message about an unknown command says after its name."""
    if name in _INSTEAD:
        return _INSTEAD[name]
    near = get_close_matches(name, [each for each in commands if each not in _NEVER_SUGGESTED], n=1)
    return f"did you mean `worker {near[0]}`?" if near else "`worker --help` lists the commands"
