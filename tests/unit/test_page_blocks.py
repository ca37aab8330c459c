"""Each block of each page is run by tests/integration/test_pages.py, or says why not, and what tests it."""

import re

import pytest

from ..support.page_session import Ids
from ..support.pages import ROOT, Block, Excuse, Step, blocks, defects, pages, steps

ID, OTHER = "b58476f2-9479-445b-898d-29eeaf905a47", "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_each_block_is_run_or_excused(page) -> None:
    """A block that is not run names a test that exists; commands stand in blocks, not in indented lines."""
    text = page.read_text()
    found = blocks(text)
    assert [] == [f"{page.name}:{block.line}: {defect}" for block in found for defect in defects(block)]
    for block in found:
        if block.kind == "console" and block.excuse is None:
            assert steps(block.code)
        if block.file and block.excuse is None:
            later = [each.code for each in found if each.line > block.line and each.kind == "console"]
            assert any(block.file in code for code in later), f"no command uses {block.file}"
    outside = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert [] == re.findall(r"^    (?:\w*\$|worker|systemctl) .*", outside, re.MULTILINE)


def test_a_block_without_an_excuse_is_a_defect() -> None:
    """Unknown kinds, excuses that name no test that exists, and commands in a text are found."""
    found = blocks(
        "```sh\nls\n```\n"
        "<!-- not run: a reason: tests/unit/test_page_blocks.py::test_none -->\n```console\n$ ls\n```\n"
        "```text\n$ ls\n```\n```console\n$ ls\n```\n"
    )
    defective = ["a block of kind 'sh'", "no such test", "commands belong", ""]
    for block, words in zip(found, defective, strict=True):
        assert words in "".join(defects(block))
        assert bool(words) == bool(list(defects(block)))


def test_an_excuse_names_its_test() -> None:
    """A comment that names no test is an error, not an excuse."""
    with pytest.raises(ValueError, match=r"line 1: not REASON: tests/FILE"):
        blocks("<!-- not run: it is slow -->\n```console\n$ ls\n```\n")


def test_comments_are_about_the_next_block() -> None:
    """Setups, needs, excuses and names of files; an excuse of the page is one of each block after it."""
    excuse = Excuse("slow", ("tests/a.py::test_b", "tests/c.py"))
    text = (
        "<!-- setup: a\nb -->\n<!-- needs: c -->\n```console\n$ ls\n```\n"
        "`x/y.py`:\n\n```python\nz\n```\n"
        "<!-- page not run: slow: tests/a.py::test_b,\ntests/c.py -->\n  ```json\n  {\n    1}\n  ```\n"
    )
    assert [
        Block(4, "console", "$ ls\n", setup="a\nb", needs="c"),
        Block(9, "python", "z\n", file="x/y.py"),
        Block(14, "json", "{\n  1}\n", excuse=excuse),
    ] == blocks(text)


def test_commands_and_what_they_print() -> None:
    """A command may go on after the second prompt of a shell."""
    assert [Step("a \\\nb", "1\n> 2\n"), Step("c", "")] == steps("$ a \\\n> b\n1\n> 2\n$ c\n")
    assert [Step("a", "1 $ 2\n", "host"), Step("b", "", "laptop")] == steps("host$ a\n1 $ 2\nlaptop$ b\n")
    with pytest.raises(ValueError, match="it begins with output"):
        steps("1\n$ c\n")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", ""),
        ("a\n", "a\n"),
        ("...\nb\n", "a\n\nb\n"),
        ("...\n", ""),
        ("a...\n", "abc\n"),
        ("Pid: 63136 Exit code: 0\n", "Pid: 7 Exit code: 0\n"),
        ("worker is up at 127.0.0.1:7443\n", "worker is up at 127.0.0.1:40001\n"),
        ("2026-01-02T15:04:05.678Z a\n", "2026-11-29T11:45:11.652Z a\n"),
        ("ended 3 min ago\n", "ended 0 min ago\n"),
        ("see /var/lib/worker/server.log\n", "see /home/x/server.log\n"),
        (f"Job {ID} {ID}\n", f"Job {OTHER} {OTHER}\n"),
    ],
)
def test_what_is_the_same(shown: str, printed: str) -> None:
    """Forms are compared, and `...` stands for the rest of a line, or for lines."""
    assert Ids().match(shown, printed, "/home/x")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", "a\n"),
        ("a\n", ""),
        ("a\n...\n", "b\n"),
        ("a...\n", "ab\nc\n"),
        ("a.c\n", "abc\n"),
        ("Pid: 1 Exit code: 0\n", "Pid: 1 Exit code: 1\n"),
        ("ended 3 min ago\n", "ended 3 s ago\n"),
        (f"Job {ID} {ID}\n", f"Job {ID} {OTHER}\n"),
        (f"Job {ID}\n", "Job b58476f2\n"),
    ],
)
def test_what_is_not_the_same(shown: str, printed: str) -> None:
    """Anything else differs."""
    assert not Ids().match(shown, printed, "/home/x")


def test_ids_of_the_page_stand_for_real_ones() -> None:
    """What was printed in place of an id of the page is used in later commands; others are the last job."""
    ids = Ids()
    assert f"query {ID}" == ids.command(f"query {ID}")
    ids.started(f"Job {OTHER} is started\n")
    assert f"query {OTHER}; wait {OTHER}" == ids.command(f"query {ID}; wait JOB")
    real = OTHER.replace("1", "2")
    assert ids.match(f"Job {ID}\n", f"Job {real}\n", "/home/x")
    assert f"query {real}; wait {OTHER}" == ids.command(f"query {ID}; wait JOB")
    assert not ids.match(f"Job {ID}\n", f"Job {OTHER}\n", "/home/x")
