"""Text for terminals and logs."""


def printable(text: str) -> str:
    r"""Return ``text`` on one line, with control characters written as \n or \x1b."""
    if text.isprintable():
        return text
    # Not the codec unicode_escape: it is loaded at its first use, when no descriptor may be left.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
