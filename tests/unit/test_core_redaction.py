"""Secrets in arguments are left out of the audit, and nothing else is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.audit.redaction import MASK, SECRET_WORDS, Redaction

from ..support.examples import examples

SECRETS = [
    (["mysql", "--password=hunter2", "db"], ["mysql", f"--password={MASK}", "db"]),
    (["mysql", "--password", "hunter2", "db"], ["mysql", "--password", MASK, "db"]),
    (["mysql", "-password", "hunter2"], ["mysql", "-password", MASK]),
    (["env", "DB_PASSWORD=correct horse", "app"], ["env", f"DB_PASSWORD={MASK}", "app"]),
    (["app", "--Api-Key=x"], ["app", f"--Api-Key={MASK}"]),
    (["app", "--apiKey", "x"], ["app", "--apiKey", MASK]),
    (["app", "--set", "auth.token=x"], ["app", "--set", f"auth.token={MASK}"]),
    (["app", "--from-literal=token=x"], ["app", f"--from-literal=token={MASK}"]),
    (["curl", "-H", "Authorization: Bearer abc"], ["curl", "-H", f"Authorization: {MASK}"]),
    (["curl", "-d", '{"password": "a b", "x": 1}'], ["curl", "-d", f'{{"password": {MASK}, "x": 1}}']),
    (["curl", "https://me:pw@example.org/x"], ["curl", f"https://me:{MASK}@example.org/x"]),
    (["sh", "-c", "mysql --password 'a b' -e x"], ["sh", "-c", f"mysql --password {MASK} -e x"]),
    (["sh", "-c", "A=1 TOKEN=abc; run"], ["sh", "-c", f"A=1 TOKEN={MASK}; run"]),
    (["app", "--secret", "--other"], ["app", "--secret", MASK]),
    (["app", "--secret"], ["app", "--secret"]),
    (["app", "--secret", "--token", "x", "y"], ["app", "--secret", MASK, MASK, "y"]),
    (["app", "--password", "--", "x", "y"], ["app", "--password", "--", MASK, "y"]),
    (["app", "--pass", "x"], ["app", "--pass", MASK]),
    (["openssl", "-passin", "pass:x"], ["openssl", "-passin", f"pass:{MASK}"]),
    (["app", "--db-pwd=x"], ["app", f"--db-pwd={MASK}"]),
    (["app", "--dbPwd", "x"], ["app", "--dbPwd", MASK]),
    (["java", "-Dpass=x", "-Ddb.pw=x"], ["java", f"-Dpass={MASK}", f"-Ddb.pw={MASK}"]),
    (["env", "DB_PASS_1=x", "MYSQL_PWD=x"], ["env", f"DB_PASS_1={MASK}", f"MYSQL_PWD={MASK}"]),
    (["env", "PGPASSWORD=x", "psql"], ["env", f"PGPASSWORD={MASK}", "psql"]),
    (["curl", "-u", "me:p w"], ["curl", "-u", f"me:{MASK}"]),
    (["curl", "-sSu", "me:pw"], ["curl", "-sSu", f"me:{MASK}"]),
    (["curl", "-ume:p w"], ["curl", f"-ume:{MASK}"]),
    (["curl", "--user=me:p w"], ["curl", f"--user=me:{MASK}"]),
    (["curl", "--proxy-user", "me:pw"], ["curl", "--proxy-user", f"me:{MASK}"]),
    (["sh", "-c", "curl -u me:pw x"], ["sh", "-c", f"curl -u me:{MASK} x"]),
    (["sh", "-c", "curl -u 'me:p w' x"], ["sh", "-c", f"curl -u 'me:{MASK}' x"]),
    (["http", "--auth", "me:pw"], ["http", "--auth", f"me:{MASK}"]),
    (
        ["sh", "-c", 'curl -H "Authorization: Bearer abc" x'],
        ["sh", "-c", f'curl -H "Authorization: {MASK}" x'],
    ),
    (["sh", "-c", "x 'Proxy-Authorization: Basic YTpi'"], ["sh", "-c", f"x 'Proxy-Authorization: {MASK}'"]),
    (["http", "Authorization:", "Bearer abc"], ["http", f"Authorization:{MASK}", MASK]),
    (["curl", "-H", "X-Own: Bearer abc.d-e"], ["curl", "-H", f"X-Own: Bearer {MASK}"]),
    (["git", "clone", "https://me:p@ss@x.org/a"], ["git", "clone", f"https://me:{MASK}@x.org/a"]),
    (["psql", "postgres://me:pw@h:5432/d"], ["psql", f"postgres://me:{MASK}@h:5432/d"]),
    (["redis-cli", "-u", "redis://:pw@h"], ["redis-cli", "-u", f"redis://:{MASK}@h"]),
    (["git", "clone", f"https://{'t' * 40}@x.org/a"], ["git", "clone", f"https://{MASK}@x.org/a"]),
    (
        ["curl", "https://x.org/?a=1&access_token=x&b=2"],
        ["curl", f"https://x.org/?a=1&access_token={MASK}&b=2"],
    ),
    (
        ["sh", "-c", r'curl -d "{\"password\": \"a b\", \"x\": 1}"'],
        ["sh", "-c", rf'curl -d "{{\"password\": {MASK}, \"x\": 1}}"'],
    ),
    (["sh", "-c", r'ssh h "db --password=\"a b\" x"'], ["sh", "-c", f'ssh h "db --password={MASK} x"']),
    (["sh", "-c", 'export PASSWORD="a b"c x'], ["sh", "-c", f"export PASSWORD={MASK} x"]),
    (["sh", "-c", r"app --token $'a\nb' x"], ["sh", "-c", f"app --token {MASK} x"]),
    (["sh", "-c", "app --token \\\n  abc x"], ["sh", "-c", f"app --token \\\n  {MASK} x"]),
    (["ruby", "-e", 'login("password" => "a b")'], ["ruby", "-e", f'login("password" => {MASK})']),
    (["curl", "-d", "user[password]=x"], ["curl", "-d", f"user[password]={MASK}"]),
    (["psql", "-c", "ALTER ROLE u PASSWORD 'a b'"], ["psql", "-c", f"ALTER ROLE u PASSWORD {MASK}"]),
    (["sh", "-c", "curl -u me:'p w' x"], ["sh", "-c", f"curl -u me:{MASK} x"]),
    (["sh", "-c", r'ssh h "curl -u \"me:p w\" x"'], ["sh", "-c", f'ssh h "curl -u \\"me:{MASK}" x"']),
]


@pytest.mark.parametrize(("command", "recorded"), SECRETS)
def test_secrets_are_replaced(command: list[str], recorded: list[str]) -> None:
    """The value of a secret name is replaced, in each of the usual forms; the rest is recorded."""
    assert recorded == Redaction().command(command)


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "-l", "/"],
        ["kubectl", "get", "secret", "db"],
        ["vault", "token", "lookup"],
        ["curl", "https://example.org:443/a@b"],
        ["echo", "a=b", "surpass=x"],
        ["ftp", "--passive", "host"],
        ["draw", "--compass=north", "--bypass", "x"],
        ["app", "--pass-through", "x", "--pwdump=x"],
        ["psql", "-u", "root", "-h", "x"],
        ["docker", "run", "-u", "1000:1000", "x"],
        ["sh", "-c", "docker run -u 1000:1000 x"],
        ["sh", "-c", "sudo -u root id; echo a:b"],
        ["curl", "-u", "root", "https://x.org:443/me:a@b"],
        ["git", "clone", "ssh://git@x.org/a", "git@x.org:a"],
        ["tar", "--update", "x:y"],
        ["bear", "bearers", "of", "news"],
    ],
)
def test_other_arguments_are_recorded(command: list[str]) -> None:
    """A word alone is no secret: it has no value."""
    assert command == Redaction().command(command)


def test_words_are_a_setting() -> None:
    """With other words other names are secret; without any, nothing is replaced."""
    command = ["app", "--pin=1", "--password=2", "https://a:b@c"]
    assert ["app", f"--pin={MASK}", "--password=2", f"https://a:{MASK}@c"] == Redaction(["PIN"]).command(
        command
    )
    assert command == Redaction([]).command(command)


@given(
    st.sampled_from(SECRET_WORDS),
    st.text("abcXYZ_-.", max_size=5),
    st.sampled_from(["{}={}", "{}: {}", '"{}":"{}"', "x {}={} y", "--{}={}", "cmd --{} {}"]),
)
def test_no_form_leaks(word: str, prefix: str, form: str) -> None:
    """A name that contains the word in any case, at any place, hides its value."""
    short = len(word) <= 4
    if short:  # such a word must be the last part
        prefix = f"{prefix}_"
    for name in (prefix + word, prefix + word.upper(), f"X-{word}" if short else word + prefix):
        for argument in (form.format(name, "hunter2"),):
            assert "hunter2" not in " ".join(Redaction().command(["sh", "-c", argument]))


@settings(max_examples=examples(50))
@given(st.lists(st.text(st.sampled_from("-_.=:'\"@/ paswordtken\\\n"), max_size=200), max_size=20))
def test_redaction_keeps_the_number_of_arguments(command: list[str]) -> None:
    """Any text can be redacted, and each argument stays one."""
    found = Redaction().command(command)
    assert len(command) == len(found)
    assert found == Redaction().command(command)


@pytest.mark.parametrize(
    "unit",
    [
        *("password", "password=", "-", "--password ", '"', "://a:", "token:'", "\\"),
        *(
            "-u",
            " -u",
            "-u a:",
            "-u ",
            " --user=",
            "bearer ",
            "bearer",
            "Pw",
            "pass-",
            "pw1",
            "://",
            "https://a",
        ),
        *(" ", "@", "://:@", "authorization: basic ", "--pass --", "-U'a:"),
        *("\\", '\\"', 'pw=\\"', "pw='a'", "password ", "password]", "pw=>", "--pw \\\n", " -u a:'\""),
    ],
)
def test_redaction_takes_linear_time(unit: str) -> None:
    """A long hostile argument takes no more steps for each character than a short one.

    A quadratic algorithm would need hours here, so the test would not end.
    """
    assert Redaction().command([unit * (1 << 17)])
