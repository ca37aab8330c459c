"""The forms of a user: name, uid, and both with a group."""

import grp
import os
import pwd

import pytest

from worker.core.errors import AccessDenied, InvalidJobSpec
from worker.core.model.job import JobSpec
from worker.linux.spawner.plan import NoNewPrivs
from worker.linux.spawner.users import Account, account

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")


def unknown_number() -> int:
    """Return a number that is neither that of a user nor that of a group."""
    taken = {each.pw_uid for each in pwd.getpwall()} | {each.gr_gid for each in grp.getgrall()}
    return next(number for number in range(12345, 1 << 20) if number not in taken)


@AS_ROOT
@pytest.mark.parametrize("user", ["nobody", str(pwd.getpwnam("nobody").pw_uid)])
def test_a_user_by_name_or_number(user: str) -> None:
    """A name and its number give the same account, with the groups of the user database."""
    entry = pwd.getpwnam("nobody")
    groups = tuple(os.getgrouplist("nobody", entry.pw_gid))
    assert Account("nobody", entry.pw_dir, entry.pw_uid, entry.pw_gid, groups) == account(user)


@AS_ROOT
def test_a_number_without_an_entry() -> None:
    """A uid without an entry runs in the group of its number, with HOME=/ and its number as the name."""
    number = unknown_number()
    assert Account(str(number), "/", number, number, ()) == account(str(number))


@AS_ROOT
def test_a_group_replaces_all_groups_of_the_user() -> None:
    """A group after the colon, by name or number, is the only group, as with docker."""
    entry, number = pwd.getpwnam("nobody"), unknown_number()
    daemon = grp.getgrnam("daemon").gr_gid
    expected = Account("nobody", entry.pw_dir, entry.pw_uid, daemon, ())
    assert expected == account("nobody:daemon") == account(f"nobody:{daemon}")
    assert number == account(f"nobody:{number}").gid
    assert Account(str(number), "/", number, daemon, ()) == account(f"{number}:daemon")
    assert (0, ()) == (account("nobody:0").gid, account("nobody:0").groups)


@AS_ROOT
def test_an_unknown_number_never_gets_the_group_of_others() -> None:
    """A uid without an entry whose number is that of an existing group must name its group."""
    users = {each.pw_uid for each in pwd.getpwall()}
    other = next((each for each in grp.getgrall() if each.gr_gid not in users), None)
    if other is None:
        pytest.skip("each group has the number of a user")
    number = other.gr_gid
    with pytest.raises(InvalidJobSpec, match=f"its number is that of the group '{other.gr_name}'"):
        account(str(number))
    assert number == account(f"{number}:{number}").gid


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("no-such-user", "no user 'no-such-user' on this machine"),
        ("no-such-user:root", "no user 'no-such-user' on this machine"),
        ("root:no-such-group", "no group 'no-such-group' on this machine"),
        ("4294967295", "user 4294967295 is not a possible number; the highest is 4294967294"),
        ("root:4294967295", "group 4294967295 is not a possible number"),
        ("99999999999999999999", "user 99999999999999999999 is not a possible number"),
        ("-1", "no user '-1' on this machine"),
        (":root", "':root' names no user; write USER, or USER:GROUP"),
        ("root:", "'root:' names no group; write USER, or USER:GROUP"),
        ("root:root:root", "no group 'root:root' on this machine"),
        ("\N{SUPERSCRIPT TWO}", "no user '\N{SUPERSCRIPT TWO}' on this machine"),
    ],
)
def test_the_wrong_part_is_named(user: str, reason: str) -> None:
    """The error names the part that does not exist or cannot be."""
    with pytest.raises(InvalidJobSpec, match=f"user: {reason}"):
        account(user)


def test_our_own_user_needs_no_change() -> None:
    """Without a user, and for a worker without root that names its own, nothing changes."""
    own = account(None)
    assert own.uid is None
    if os.geteuid() != 0:
        assert own == account(str(os.geteuid())) == account(f"{os.geteuid()}:{os.getegid()}")
        with pytest.raises(InvalidJobSpec, match="cannot change to group"):
            account(f"{os.geteuid()}:{os.getegid() + 1}")


OTHER = Account("nobody", "/", os.geteuid() + 1, 65534, ())
SAME = Account("me", "/", None, None, ())
ROOT_AGAIN = Account("me", "/", os.geteuid(), 0, ())
PLAIN, PRIVILEGED = JobSpec("ls"), JobSpec("ls", new_privileges=True)


@pytest.mark.parametrize(
    ("setting", "who", "spec", "applies"),
    [
        (NoNewPrivs.AUTO, OTHER, PLAIN, True),
        (NoNewPrivs.AUTO, OTHER, PRIVILEGED, False),
        (NoNewPrivs.AUTO, SAME, PLAIN, False),
        (NoNewPrivs.AUTO, ROOT_AGAIN, PLAIN, False),
        (NoNewPrivs.ALWAYS, OTHER, PLAIN, True),
        (NoNewPrivs.ALWAYS, SAME, PLAIN, True),
        (NoNewPrivs.NEVER, OTHER, PLAIN, False),
        (NoNewPrivs.NEVER, SAME, PRIVILEGED, False),
    ],
)
def test_which_jobs_get_no_new_privileges(
    setting: NoNewPrivs, who: Account, spec: JobSpec, *, applies: bool
) -> None:
    """By default those whose user the worker changed, unless the job requests new privileges."""
    assert applies is setting.applies(spec, who)


def test_always_allows_no_exception() -> None:
    """With ``always`` a job that requests new privileges is rejected."""
    with pytest.raises(AccessDenied, match="no_new_privs = always"):
        NoNewPrivs.ALWAYS.applies(PRIVILEGED, SAME)
