"""docs/reference/platforms.md names for each claim the module that it comes from."""

import re
import tomllib

import pytest

from ..support.page_tables import ROOT, rows

CLAIMS = list(rows("reference/platforms.md", "code"))


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: next(iter(row.values())))
def test_each_claim_is_in_the_code(row: dict[str, str]) -> None:
    """The module exists, and if the claim is about a version, a comment there names the version."""
    module = ROOT / row["code"].strip("`")
    version = re.match(r"\d+(?:\.\d+)?(?=$|,)", row.get("version", ""))
    assert not version or re.search(rf"\b{re.escape(version[0])}\b", module.read_text())
    assert module.is_file()


def test_the_versions_of_python() -> None:
    """They are those of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)]
    (python,) = [
        row["supported"] for row in rows("reference/platforms.md", "tested") if row[""] == "Python"
    ]
    assert ", ".join(named) == python


def test_what_the_doctor_says() -> None:
    """Each version of Linux that the checks of `worker doctor` recommend is in the table."""
    checks = [*(ROOT / "cli" / "doctor").glob("*.py"), ROOT / "cgroups" / "capabilities.py"]
    texts = " ".join(path.read_text() for path in checks)
    recommended = set(re.findall(r"use Linux (\d+\.\d+) or later", texts))
    assert recommended <= {row["version"].partition(",")[0] for row in CLAIMS if "version" in row}
