"""The man pages: Sphinx makes them from docs/ (docs/conf.py); the sdist contains them.

So a wheel that is built from the sdist needs no Sphinx, as with other programs that have man pages.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "man"

REQUIREMENTS = ["sphinx>=8", "myst-parser>=4"]
"""What makes them."""


def requirements() -> list[str]:
    """Return what a build of the pages needs."""
    return [] if _in_sdist() else REQUIREMENTS


def make() -> None:
    """Make the pages in docs/man, unless they came with the sdist."""
    if _in_sdist():
        return
    with TemporaryDirectory() as cache:
        options = ["-q", "-W", "--keep-going", "-b", "man", "-d", cache]
        subprocess.run([sys.executable, "-m", "sphinx", *options, "docs", str(PAGES)], check=True, cwd=ROOT)


def installed() -> Sequence[tuple[str, list[str]]]:
    """Return where the pages are installed below the prefix, as ``data_files`` of setuptools."""
    by_section: dict[str, list[str]] = {}
    for page in sorted(PAGES.glob("*.[1-9]")):
        by_section.setdefault(page.suffix[1:], []).append(str(page.relative_to(ROOT)))
    return [(f"share/man/man{section}", pages) for section, pages in by_section.items()]


def _in_sdist() -> bool:
    return (ROOT / "PKG-INFO").exists() and PAGES.exists()
