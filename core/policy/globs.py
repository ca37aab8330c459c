r"""Patterns of the policy: `*` stands for any characters, ``\`` makes the next character literal.

There are no regular expressions: one of Python's took seconds for 27 characters. A match takes time in
proportion to the text. ``?`` and ``[`` have no meaning; without ``\`` they are rejected, because
whoever writes them expects one.
"""

from collections.abc import Callable

Matcher = Callable[[str], bool]

_HAS_MEANING_ELSEWHERE = "?["
_WHOLE_COMPONENTS = {"", ".", ".."}


def name_glob(pattern: str) -> Matcher:
    """Return whether a name matches; `*` stands for any characters. Raises ValueError."""
    pieces = _pieces(_tokens(pattern))
    return lambda text: _fits(pieces, text)


def path_glob(pattern: str) -> Matcher:
    """Return whether an argument or a path matches, in full. Raises ValueError.

    `*` matches no ``/`` and no ``-`` at the beginning: only the same character in the pattern does. An
    empty component of a path, ``.`` and ``..`` match only themselves.
    """
    components = [_pieces(each) for each in _components(_tokens(pattern))]
    if all(len(each) == 1 for each in components):
        literal = "/".join(each[0] for each in components)
        return lambda text: text == literal
    slashes = len(components) - 1
    dash = components[0][0].startswith("-")

    def matches(text: str) -> bool:
        if text.count("/") != slashes or (text.startswith("-") and not dash):
            return False
        return all(map(_component_fits, components, text.split("/")))

    return matches


def _tokens(pattern: str) -> list[str | None]:
    """Return the characters of a pattern without escapes; None for a star."""
    tokens: list[str | None] = []
    escaped = False
    for character in pattern:
        if escaped:
            tokens.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in _HAS_MEANING_ELSEWHERE:
            raise ValueError(
                f"{pattern!r}: write \\{character} for the character {character}; only * is special"
            )
        else:
            tokens.append(None if character == "*" else character)
    if escaped:
        raise ValueError(f"{pattern!r}: ends with \\; write \\\\ for the character")
    return tokens


def _components(tokens: list[str | None]) -> list[list[str | None]]:
    """Split tokens at the slashes."""
    components: list[list[str | None]] = [[]]
    for each in tokens:
        if each == "/":
            components.append([])
        else:
            components[-1].append(each)
    return components


def _pieces(tokens: list[str | None]) -> list[str]:
    """Return the literal texts between the stars."""
    pieces = [""]
    for each in tokens:
        if each is None:
            pieces.append("")
        else:
            pieces[-1] += each
    return pieces


def _component_fits(pieces: list[str], text: str) -> bool:
    return _fits(pieces, text) and (text not in _WHOLE_COMPONENTS or len(pieces) == 1)


def _fits(pieces: list[str], text: str) -> bool:
    """Whether a text consists of these pieces with anything between two of them."""
    first, *middle = pieces
    if not middle:
        return text == first
    last = middle.pop()
    position, end = len(first), len(text) - len(last)
    if position > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in middle:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True
