"""The user of a job: names are looked up here, by the server, never by the supervisor.

A user is written as for docker: ``name``, ``uid``, or one of both with ``:group`` or ``:gid``.
"""

import grp
import os
import pwd
from dataclasses import dataclass

from ...core.errors import InvalidJobSpec

_NO_ID = (1 << 32) - 1
"""(uid_t) -1: for setresuid(2) it means "do not change"."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a job runs as. ``uid`` None: the worker's own user; no change is needed."""

    name: str
    home: str
    uid: int | None
    gid: int | None
    groups: tuple[int, ...]

    @property
    def is_another_user(self) -> bool:
        """Whether the worker changes its user for this job."""
        return self.uid is not None and self.uid != os.geteuid()


def account(user: str | None) -> Account:
    """Return the account that a job spec names.

    Raises InvalidJobSpec for the part that does not exist, and if the worker may not change to it. May
    block: NSS can use the network.
    """
    if user is None:
        return _own_account()
    name, colon, group = user.partition(":")
    for what, text in (("user", name), *((("group", group),) if colon else ())):
        if not text:
            raise InvalidJobSpec("user", f"{user!r} names no {what}; write USER, or USER:GROUP")
    uid, entry = _user(name)
    gid = group_id(group) if colon else None
    if os.geteuid() != 0:
        return _unchanged(user, uid, gid)
    if entry is None:
        return Account(str(uid), "/", uid, _own_group(uid) if gid is None else gid, ())
    if gid is not None:  # as docker: an explicit group is the only one
        return Account(entry.pw_name, entry.pw_dir, uid, gid, ())
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_dir, uid, entry.pw_gid, groups)


def _user(name: str) -> tuple[int, pwd.struct_passwd | None]:
    """Return the uid of a name or number, and the entry of the user database, which a number may lack."""
    try:
        if not _is_number(name):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry
        uid = _number("user", name)
    except KeyError:
        raise InvalidJobSpec("user", f"no user {name!r} on this machine") from None
    try:
        return uid, pwd.getpwuid(uid)
    except KeyError:
        return uid, None


def group_id(group: str) -> int:
    """Return the gid of a group, which is a name or a number; raise InvalidJobSpec if there is none."""
    if _is_number(group):
        return _number("group", group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidJobSpec("user", f"no group {group!r} on this machine") from None


def _own_group(uid: int) -> int:
    """Return the gid of a uid without an entry: the same number, unless that is a group of others.

    docs/explanation/decisions/unknown-uid-gets-its-own-group.md
    """
    try:
        other = grp.getgrgid(uid).gr_name
    except KeyError:
        return uid
    raise InvalidJobSpec(
        "user",
        f"{uid} has no entry in the user database, and its number is that of the group {other!r}; "
        f"name the group: {uid}:GROUP",
    )


def _unchanged(user: str, uid: int, gid: int | None) -> Account:
    """Return our own account if that is what is wanted: without root no other is possible."""
    if uid != os.geteuid():
        raise InvalidJobSpec("user", f"the worker does not run as root and cannot become {user!r}")
    if gid not in {None, os.getegid()}:
        raise InvalidJobSpec("user", f"the worker does not run as root and cannot change to group {gid}")
    return _own_account()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _number(what: str, text: str) -> int:
    if len(text) > len(str(_NO_ID)) or int(text) >= _NO_ID:
        raise InvalidJobSpec("user", f"{what} {text} is not a possible number; the highest is {_NO_ID - 1}")
    return int(text)


def _own_account() -> Account:
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container run with a bare uid
        return Account(str(uid), "/", None, None, ())
    return Account(entry.pw_name, entry.pw_dir, None, None, ())
