"""docs/reference is what `make reference` writes, and the man pages of the wheel come from it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The program that `make reference` runs."""
    folder = str(ROOT / "docs" / "generate")
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("generate_reference", f"{folder}/__main__.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def test_the_reference_is_up_to_date(generator: ModuleType) -> None:
    """If this fails, run `make reference`, and look at what has changed for users."""
    pages = generator.pages()
    assert {path: (generator.REFERENCE / path).read_text() for path in pages} == pages


def test_no_page_of_a_removed_command_is_left(generator: ModuleType) -> None:
    """Each page that claims to be generated is."""
    generated = {
        str(page.relative_to(generator.REFERENCE))
        for page in generator.REFERENCE.rglob("*.md")
        if page.read_text().startswith(generator.NOTE)
    }
    assert generated == generator.pages().keys()
