"""The policy of a server: the file that it is read from, and its replacement while the server runs."""

import logging
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

from ..api.roles import Role
from ..core.errors import InvalidJobSpec
from ..core.policy.in_force import PolicyInForce
from ..core.policy.reading import InvalidPolicy, PolicyReader
from ..core.policy.rules import Policy
from ..linux.kernel.renames import RenameWatch
from ..linux.kernel.unfinished_files import unfinished
from ..linux.spawner.users import account
from .options.limit_bounds import read_rule_limits
from .replaceable_files import how_unprotected
from .terminal.console import Failure

_LARGEST = 4 << 20
"""Bytes of a policy file."""

log = logging.getLogger(__name__)


def read_policy(path: Path) -> Policy:
    """Return the policy in a file; raise InvalidPolicy, naming the file and the place in it."""
    try:
        with path.open("rb") as file:
            return parse_policy(file.read(_LARGEST + 1))
    except OSError as error:
        raise InvalidPolicy(f"cannot read {path}: {error.strerror}") from None
    except InvalidPolicy as error:
        raise InvalidPolicy(f"{path}: {error}") from None


def parse_policy(text: bytes) -> Policy:
    """Return the policy in the text of a file; raise InvalidPolicy."""
    if len(text) > _LARGEST:
        raise InvalidPolicy(f"it is larger than {_LARGEST >> 20} MiB")
    try:
        tables = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # of the decoders of UTF-8 and TOML
        raise InvalidPolicy(f"{error}") from None
    return PolicyReader(read_rule_limits, os.path.realpath, frozenset(map(str, Role))).read(tables)


def check_protection(path: Path) -> None:
    """Raise InvalidPolicy if others than root, and the user of this process, can change or replace it."""
    try:
        found = how_unprotected(path)
    except OSError as error:
        raise InvalidPolicy(f"cannot read {path}: {error.strerror}") from None
    if found is not None:
        raise InvalidPolicy(str(found))


def check_default_user(policy: Path | None, default_user: str | None) -> None:
    """Raise Failure if the default user does not exist, or is missing although there is a policy."""
    if default_user is None:
        if policy is not None and os.geteuid() == 0:
            raise Failure(
                "a server that runs as root needs a default_user when it has a policy: "
                "the user of jobs without --user, such as --default-user nobody"
            )
        return
    try:
        account(default_user)
    except InvalidJobSpec as error:
        raise Failure(f"default_user: {error.reason}") from None


class PolicyFile:
    """Holds the policy of a file in force; a file that cannot be used changes nothing after the start."""

    def __init__(self, path: Path) -> None:
        """Read the policy; raise Failure if that is not possible."""
        self._path = path
        try:
            self.in_force = PolicyInForce(self._read())
        except InvalidPolicy as error:
            raise Failure(f"policy: {error}") from None
        self._watch: RenameWatch | None = None
        self._replaced: Callable[[], None] = lambda: None

    def watch(self, replaced: Callable[[], None]) -> None:
        """Read the file again whenever another one is renamed to its name, from now on.

        ``replaced`` is called after each replacement.
        """
        self._replaced = replaced
        try:
            self._watch = RenameWatch(str(self._path), self.reload)
        except OSError as error:
            log.warning("%s cannot be watched, send SIGHUP to reload it: %s", self._path, error.strerror)

    def close(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.close()

    def reload(self) -> str:
        """Read the file again; if it cannot be used, keep the policy in force, report and return why."""
        try:
            if reason := unfinished(self._path):
                raise InvalidPolicy(reason)  # noqa: TRY301 - as any other reason
            self.in_force.policy = self._read()
        except InvalidPolicy as error:
            self.in_force.trouble = str(error)
            log.error("the policy was not replaced, the old one stays in force: %s", error)  # noqa: TRY400 - no defect
            return str(error)
        self.in_force.trouble = ""
        log.info("the policy was replaced: %s", summary(self.in_force.policy))
        self._replaced()
        return ""

    def _read(self) -> Policy:
        check_protection(self._path)
        return read_policy(self._path)


def summary(policy: Policy) -> str:
    """Return how much a policy has, as text."""
    rules, quotas = len(policy.rules), len(policy.quotas)
    return f"{rules} rule{'' if rules == 1 else 's'}, {quotas} quota{'' if quotas == 1 else 's'}"
