"""Redaction: secrets in the arguments of a command are replaced before they are recorded.

A name is secret if it contains one of the words, whatever its case, and without regard to ``-``, ``_`` and
``.``. The value after such a name is replaced: ``--password=x``, ``--password x``, ``DB_PASSWORD=x``,
``{"token": "x"}``, ``Authorization: x``, and the password in ``https://user:x@host``.

Each step takes time in proportion to the text: the text is that of a client.
"""

import re
from collections.abc import Collection, Iterable

MASK = "[redacted]"

SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
)
"""The default."""

_IGNORED = str.maketrans("", "", "-_.")
_NAME = re.compile(r"[\w.-]+")
_SEPARATOR = re.compile(r"""["']?\s*[=:]\s*""")
_BLANK = re.compile(r"\s+")
_VALUE = re.compile(r""""(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s'";&|]+""", re.DOTALL)
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


class Redaction:
    """Replaces the values of secret names; without words nothing is replaced."""

    def __init__(self, words: Collection[str] = SECRET_WORDS) -> None:
        self._words = tuple(filter(None, map(_plain, words)))

    def command(self, arguments: Iterable[str]) -> list[str]:
        """Return a command without secrets; arguments that have none are the same."""
        found = list(arguments)
        if not self._suspicious("\0".join(found)):
            return found
        hide = False
        for position, argument in enumerate(found):
            if hide:
                found[position], hide = MASK, False
            else:
                found[position], hide = self._argument(argument)
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
                return argument[: separator.end()] + MASK, False
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
        return _PASSWORD_IN_URL.sub(rf"\1{MASK}", "".join((*pieces, text[done:])))

    def _secret(self, name: str) -> bool:
        plain = _plain(name)
        for word in self._words:  # noqa: SIM110 - a generator takes twice the time
            if word in plain:
                return True
        return False

    def _suspicious(self, text: str) -> bool:
        """Whether a text can contain a secret; most do not, and this is the faster test."""
        return bool(self._words) and (self._secret(text) or "://" in text)


def _plain(name: str) -> str:
    return name.lower().translate(_IGNORED)
