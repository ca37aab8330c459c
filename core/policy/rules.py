"""The parts of a policy: rules, quotas, and the patterns in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from ..model.execution import DEFAULT_PATH
from ..model.limits import LimitBounds
from .calls import CallGroup, Client
from .globs import Matcher, name_glob, path_glob

REST = "..."
"""At the end of a list of arguments: any others."""

EVERY = "*"
"""As a command: every command. As a user: every user but root and the worker's own."""


class Effect(Enum):
    """What a rule does with the calls that it matches."""

    ALLOW = "allow"
    DENY = "deny"


class Jobs(Enum):
    """Whose jobs a rule is about."""

    OWN = "own"
    ALL = "all"


class Patterns:
    """Names that a rule lists: each is a pattern.

    Whole names and beginnings are compared together: a start is checked against dozens of them.
    """

    __slots__ = ("_beginnings", "_matchers", "_names", "texts")

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self.texts = tuple(texts)
        matchers = {text: name_glob(text) for text in texts}
        plain = [text for text in texts if "\\" not in text]
        self._names = {text for text in plain if "*" not in text}
        self._beginnings = tuple(text[:-1] for text in plain if text.endswith("*") and text.count("*") == 1)
        for text in (*self._names, *(f"{each}*" for each in self._beginnings)):
            matchers.pop(text, None)
        self._matchers: Sequence[Matcher] = tuple(matchers.values())

    def __bool__(self) -> bool:
        return bool(self.texts)

    def match(self, text: str) -> bool:
        """Whether one of them matches a text."""
        if text in self._names or text.startswith(self._beginnings):
            return True
        return any(matches(text) for matches in self._matchers)


class PathPatterns:
    """Paths that a rule lists: each is a pattern."""

    __slots__ = ("_matchers", "texts")

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self.texts = tuple(texts)
        self._matchers = [path_glob(text) for text in texts]

    def __bool__(self) -> bool:
        return bool(self.texts)

    def match(self, text: str) -> bool:
        """Whether one of them matches a path."""
        return any(matches(text) for matches in self._matchers)


class PairPatterns:
    """Patterns of variables or labels: ``NAME`` for any value, or ``NAME=VALUE``.

    ``exact``: the names that only a pattern without a star matches, by their own patterns.
    """

    __slots__ = ("_exact", "_pairs", "texts")

    def __init__(self, texts: Sequence[str] = (), *, exact: Patterns | None = None) -> None:
        self.texts = tuple(texts)
        self._exact = exact or Patterns()
        self._pairs: list[tuple[bool, Matcher, Matcher | None]] = []
        for text in texts:
            name, equals, value = text.partition("=")
            self._pairs.append(("*" in name, name_glob(name), path_glob(value) if equals else None))

    def __bool__(self) -> bool:
        return bool(self.texts)

    def match(self, name: str, value: str) -> bool:
        """Whether one of them matches a name with its value."""
        only_exact = self._exact.match(name)
        return any(
            matches(name) and not (starred and only_exact) and (of_value is None or of_value(value))
            for starred, matches, of_value in self._pairs
        )


class CommandPattern:
    """A command in a rule: the pattern of its path, and those of its arguments; ``args`` None: any."""

    __slots__ = ("_arguments", "_path", "_rest", "args", "path")

    def __init__(self, path: str, args: Sequence[str] | None = None) -> None:
        if path != EVERY and not path.startswith("/"):
            raise ValueError(f"{path!r} is not an absolute path; write it, or * for every command")
        self.path = path
        self.args = None if args is None else tuple(args)
        self._path = (lambda _: True) if path == EVERY else path_glob(path)
        given = args or ()
        if REST in given[:-1]:
            raise ValueError(f"{REST!r} stands for the rest of the arguments, and can only be the last")
        self._rest = args is None or (bool(given) and given[-1] == REST)
        self._arguments = [path_glob(each) for each in given[: len(given) - (REST in given)]]

    def matches_path(self, path: str) -> bool:
        """Whether the path of a program matches."""
        return self._path(path)

    def matches_arguments(self, args: Sequence[str]) -> bool:
        """Whether all arguments match, one by one: they are never joined."""
        wanted = self._arguments
        if len(args) < len(wanted) or (len(args) > len(wanted) and not self._rest):
            return False
        return all(matches(text) for matches, text in zip(wanted, args, strict=False))


NAMED_EXACTLY = Patterns(
    (
        *("PATH", "HOME", "SHELL", "ENV", "IFS", "CDPATH", "SHELLOPTS", "PS4", "TERM*", "TMPDIR"),
        "CREDENTIALS_DIRECTORY",
        *("LD_*", "BASH*", "GLIBC_*", "GCONV_PATH", "LOCPATH", "NLSPATH", "MALLOC_*", "OPENSSL_*", "SSL_*"),
        *("PYTHON*", "PERL*", "RUBY*", "NODE_*", "JAVA_*", "JDK_*", "_JAVA_*", "CLASSPATH", "LUA_*"),
        *(
            "GIT_*",
            "SSH_*",
            "EDITOR",
            "VISUAL",
            "PAGER",
            "LESS*",
            "MAKE*",
            "GNUMAKEFLAGS",
            "SUDO_*",
            "MAN*",
        ),
        *("TAR_OPTIONS", "RSYNC_*", "VIMINIT", "EXINIT", "PROMPT_COMMAND", "XDG_*", "ZDOTDIR", "AWK*"),
        *(
            "PHP*",
            "PIP_*",
            "npm_*",
            "NPM_*",
            "CARGO_*",
            "RUST*",
            "GO*",
            "GCC_*",
            "COMPILER_PATH",
            "PKG_CONFIG*",
        ),
        *("DOTNET_*", "CORECLR_*", "WGETRC", "CURL_HOME", "ANSIBLE_*", "GTK_*", "QT_*", "INPUTRC"),
        *("USER", "LOGNAME"),
        *("HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "KRB5*", "SYSTEMD_*", "DBUS_*", "DOCKER_*"),
    )
)
"""Variables by which programs load or run what they name: rules must list them by their exact names."""


SWITCHES = ("stdin", "terminal", "new_privileges")
"""The terms that allow, or deny, an option of a start."""


@dataclass(frozen=True, slots=True)
class StartTerms:
    """What a rule states about starts.

    Of an allow: what a job may request besides the defaults. Of a deny: what a job must request for the
    rule to match; what is empty or false does not count. ``wrap`` precedes the command.
    """

    commands: Sequence[CommandPattern] = ()
    env: PairPatterns = field(default_factory=PairPatterns)
    directories: PathPatterns = field(default_factory=PathPatterns)
    users: Sequence[str] = ()
    groups: Sequence[str] = ()
    labels: PairPatterns = field(default_factory=PairPatterns)
    ulimits: Patterns = field(default_factory=Patterns)
    secrets: Patterns = field(default_factory=Patterns)
    stdin: bool = False
    terminal: bool = False
    new_privileges: bool = False
    unsafe_path: bool = False
    limits: LimitBounds = field(default_factory=LimitBounds)
    wrap: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients that a rule or a quota is about; what is empty does not count."""

    names: Patterns = field(default_factory=Patterns)
    issuers: Patterns = field(default_factory=Patterns)
    roles: frozenset[str] = frozenset()

    def include(self, client: Client) -> bool:
        """Whether a client is among them."""
        return (
            (not self.names or self.names.match(client.name))
            and (not self.issuers or self.issuers.match(client.issuer))
            and (not self.roles or not self.roles.isdisjoint(client.roles))
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: which calls of which clients, on whose jobs, it allows or denies."""

    name: str
    effect: Effect
    clients: Clients
    calls: frozenset[CallGroup]
    jobs: Jobs
    start: StartTerms = field(default_factory=StartTerms)


@dataclass(frozen=True, slots=True)
class Quota:
    """How many jobs each of these clients may have running at once."""

    name: str
    clients: Clients
    running_jobs: int


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules and quotas in the order of the file; ``path`` is where commands are looked up."""

    rules: Sequence[Rule] = ()
    quotas: Sequence[Quota] = ()
    path: str = DEFAULT_PATH

    @property
    def user_names(self) -> frozenset[str]:
        """The users that rules name."""
        return frozenset(name for rule in self.rules for name in rule.start.users) - {EVERY}

    @property
    def group_names(self) -> frozenset[str]:
        """The groups that rules name."""
        return frozenset(name for rule in self.rules for name in rule.start.groups) - {EVERY}
