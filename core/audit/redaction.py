"""Redaction: secrets in the arguments of a command are replaced before they are recorded.

A name is secret if it contains one of the words, whatever its case, and without regard to ``-``, ``_`` and
``.``; a word of at most four letters must be the last part of the name: ``--db-pwd``, ``userPass``, but not
``--passive``. The value after such a name is replaced: ``--password=x``, ``--password x``,
``DB_PASSWORD=x``, ``{"token": "x"}``, ``Authorization: Bearer x``. So are the password in
``https://user:x@host`` and in ``-u user:x``, and what follows ``Bearer``.

Each step takes time in proportion to the text: the text is that of a client.
"""

import re
from collections.abc import Collection, Iterable

MASK = "[redacted]"

SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "pass",
    "pwd",
    "pw",
)
"""The default."""

_SHORT = 4
"""Letters of a word that other words contain, as compass does: it counts only as a part of its own."""

_IGNORED = str.maketrans("", "", "-_.")
_NAME = re.compile(r"[\w.-]+")
_BETWEEN_PARTS = re.compile(r"[-_.]+|(?<=[a-z0-9])(?=[A-Z])")
_SEPARATOR = re.compile(r"""[\\"'\]]*\s*(?:=>|[=:])\s*""")
_BLANK = re.compile(r"(?:\s|\\\n)+")
_SCHEME = r"(?:(?:basic|bearer|digest|negotiate|ntlm|token|apikey|aws4-hmac-sha256)\s+(?=[^\s'\";&|]))?"
# In a script within a script the quotes are escaped. After a quote a word goes on: "hun"ter2.
_ESCAPED = r"""(\\{1,7}["']).*?(?:\1|\Z)"""
_QUOTED = r"""\$?(?:"(?:[^"\\]|\\.)*"?|'[^']*'?)[\w+/=.@%-]*"""
_VALUE = re.compile(rf"""{_ESCAPED}|{_QUOTED}|{_SCHEME}[^\s'";&|]+""", re.DOTALL | re.IGNORECASE)
_IN_SQL = re.compile(r"""\b(password\s+)'[^']*'?""", re.IGNORECASE)
_BEARER = "bearer"
_BEARER_VALUE = re.compile(r"""\b(bearer\s+)[^\s'";&|]+""", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"""(://[^/\s:@]*:)[^/\s"]+(?=@)""")
# A name of a user is shorter; some services take a token in its place.
_TOKEN_IN_URL = re.compile(r"(https?://)[^/\s:@]{20,}(?=@)", re.IGNORECASE)
_CREDENTIALS = r"-[A-Za-z]{0,8}[uU]|--(?:proxy-)?(?:user|auth)"
"""Options for a user with a password, as of curl; others take a user with a group."""
_CREDENTIALS_OPTION = re.compile(_CREDENTIALS)
_MAY_BE_CREDENTIALS = re.compile(rf"(?:^|[\s\0'\"])(?:{_CREDENTIALS})")
_ATTACHED_CREDENTIALS = re.compile(r"(?:-[uU]|--(?:proxy-)?(?:user|auth)=)(?=[^\s:'\"=/]+:)")
_CREDENTIALS_IN_TEXT = re.compile(
    rf"""((?:^|(?<=\s))(?:(?:{_CREDENTIALS})(?:\s+|=)|-[uU]))"""
    r"""(\\{0,7}["'])?([^\s:'"=/\\]+["']?:(?(2)[^'"]+|(?:[^\s'"]|"[^"]*"?|'[^']*'?)+))"""
)


class Redaction:
    """Replaces the values of secret names; without words nothing is replaced."""

    def __init__(self, words: Collection[str] = SECRET_WORDS) -> None:
        found = tuple(filter(None, map(_plain, words)))
        self._words = tuple(word for word in found if len(word) > _SHORT)
        self._short = frozenset(found) - set(self._words)
        self._hints = (*self._words, *self._short, _BEARER) if found else ()

    def command(self, arguments: Iterable[str]) -> list[str]:
        """Return a command without secrets; arguments that have none are the same."""
        found = list(arguments)
        if not self._suspicious("\0".join(found)):
            return found
        hide = credentials = False
        for position, argument in enumerate(found):
            if hide:
                # `--password -- x`: a program may take either as the password. What is hidden may also
                # be an option: `--password --token x`.
                if argument != "--":
                    found[position], hide = MASK, self._argument(argument)[1]
            elif credentials:
                found[position] = self._values(_without_password(argument))
            else:
                found[position], hide = self._argument(argument)
            credentials = _CREDENTIALS_OPTION.fullmatch(argument) is not None
        return found

    def text(self, text: str) -> str:
        """Return a text, such as a script or a message, without secrets."""
        return self._values(text) if self._suspicious(text) else text

    def _argument(self, argument: str) -> tuple[str, bool]:
        """Return an argument without secrets, and whether the next one is a secret.

        The value of a secret name at the beginning is all of the rest: it may contain blanks.
        """
        if not self._suspicious(argument):
            return argument, False
        name = _NAME.match(argument)
        if name is not None and self._secret(name[0]):
            if name.end() == len(argument):
                return argument, argument.startswith("-")
            separator = _SEPARATOR.match(argument, name.end())
            if separator is not None:
                empty = separator.end() == len(argument)
                return argument[: separator.end()] + MASK, empty and ":" in separator[0]
        if (option := _ATTACHED_CREDENTIALS.match(argument)) is not None:
            return option[0] + _without_password(argument[option.end() :]), False
        return self._values(argument), False

    def _values(self, text: str) -> str:
        pieces: list[str] = []
        done = 0
        for name in _NAME.finditer(text):
            if name.start() < done or not self._secret(name[0]):
                continue
            separator = _SEPARATOR.match(text, name.end())
            if separator is None and name[0].startswith("-"):
                separator = _BLANK.match(text, name.end())
            value = _VALUE.match(text, separator.end()) if separator else None
            if separator and value:
                pieces += text[done : separator.end()], MASK
                done = value.end()
        text = "".join((*pieces, text[done:]))
        for pattern in (_PASSWORD_IN_URL, _TOKEN_IN_URL, _BEARER_VALUE, _IN_SQL):
            text = pattern.sub(rf"\1{MASK}", text)
        return _CREDENTIALS_IN_TEXT.sub(
            lambda found: f"{found[1]}{found[2] or ''}{_without_password(found[3])}", text
        )

    def _secret(self, name: str) -> bool:
        plain = _plain(name)
        for word in self._words:
            if word in plain:
                return True
        for word in self._short:
            if word in plain:
                return _last_part(name) in self._short
        return False

    def _suspicious(self, text: str) -> bool:
        """Whether a text can contain a secret; most do not, and this is the faster test."""
        if not self._hints:
            return False
        plain = _plain(text)
        for word in self._hints:
            if word in plain:
                return True
        return ":" in text and ("://" in text or _MAY_BE_CREDENTIALS.search(text) is not None)


def _plain(name: str) -> str:
    return name.lower().translate(_IGNORED)


def _last_part(name: str) -> str:
    """Return the last part of a name without digits: of DB_PASS_1, userPass and -Dpass it is pass."""
    parts = _BETWEEN_PARTS.split(name.removeprefix("-D"))
    letters = (part.rstrip("0123456789") for part in reversed(parts))
    return next(filter(None, letters), "").lower()


def _without_password(credentials: str) -> str:
    """Return ``user:[redacted]``; what is only a user, a uid with a gid, or a URL, is the same."""
    user, colon, password = credentials.partition(":")
    if not password or password.startswith("//") or (user.isdecimal() and password.isdecimal()):
        return credentials
    return f"{user}{colon}{MASK}"
