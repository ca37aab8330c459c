"""The user of a job: names are looked up here, by the server, never by the supervisor."""

import os
import pwd
from dataclasses import dataclass

from ...core.errors import InvalidJobSpec


@dataclass(frozen=True, slots=True)
class Account:
    """A user as NSS reports it. ``uid`` None: the worker's own user; no change is needed."""

    name: str
    home: str
    uid: int | None
    gid: int | None
    groups: tuple[int, ...]


def account(user: str | None) -> Account:
    """Look up a user by name or number; InvalidJobSpec if there is none, or we may not switch to it.

    May block: NSS can use the network.
    """
    if user is None:
        return _own_account()
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise InvalidJobSpec("user", f"no user {user!r} on this machine") from None
    if os.geteuid() != 0 and entry.pw_uid != os.geteuid():
        raise InvalidJobSpec("user", f"the worker does not run as root and cannot become {user!r}")
    if os.geteuid() != 0:
        return _own_account()
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_dir, entry.pw_uid, entry.pw_gid, groups)


def _own_account() -> Account:
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container run with a bare uid
        return Account(str(uid), "/", None, None, ())
    return Account(entry.pw_name, entry.pw_dir, None, None, ())
