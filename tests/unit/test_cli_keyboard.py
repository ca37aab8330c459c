"""What is typed is read ahead of the server, up to a bound, and the end of it is no end of the input."""

import asyncio

import pytest

from worker.cli.terminal.keyboard import MOST_WAITING, Keyboard

from ..support.attaching import Typed

DETACH = b"\x10\x11"


async def test_detaching_while_nothing_is_passed_on() -> None:
    """The keys before the sequence are still there; those after it are not."""
    typed = Typed(b"one", b"two\x10", b"\x11three")
    keyboard = Keyboard(typed.read, DETACH)
    await keyboard.run()
    assert keyboard.detached.is_set()
    assert [b"onetwo", None] == [await keyboard.read(), await keyboard.read()]


async def test_the_end_of_a_terminal() -> None:
    """A terminal that is closed leaves the input of the job open, and is no detaching."""
    keyboard = Keyboard(Typed(b"one", ended=True).read, DETACH)
    await keyboard.run()
    assert not keyboard.detached.is_set()
    assert [b"one", None] == [await keyboard.read(), await keyboard.read()]


async def test_keys_are_returned_as_they_are_typed() -> None:
    """A read waits for the next keys."""
    typed = Typed()
    keyboard = Keyboard(typed.read, DETACH)
    running = asyncio.ensure_future(keyboard.run())
    for keys in (b"a", b"\x10b", b"\x03"):
        reading = asyncio.ensure_future(keyboard.read())
        typed.type(keys)
        assert keys == await reading
    typed.end()
    await running


async def test_the_bound() -> None:
    """A large paste that cannot be passed on is not read to its end."""
    piece = bytes(MOST_WAITING // 4)
    typed = Typed(*[piece] * 100, ended=True)
    keyboard = Keyboard(typed.read, DETACH)
    running = asyncio.ensure_future(keyboard.run())
    passed = 0
    while keys := await keyboard.read():
        passed += len(keys)
        assert typed.size - passed <= MOST_WAITING
    assert 100 * len(piece) == passed
    await running


async def test_a_terminal_that_cannot_be_read() -> None:
    """What was typed before is returned, then the error is raised."""
    answers: list[bytes | OSError] = [b"one", OSError(5, "Input/output error")]

    async def read() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    keyboard = Keyboard(read, DETACH)
    await keyboard.run()
    assert b"one" == await keyboard.read()
    with pytest.raises(OSError, match="Input/output error"):
        await keyboard.read()
