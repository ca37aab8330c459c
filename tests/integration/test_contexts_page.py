"""The commands of docs/how-to/contexts.md, in their order, print what the page shows."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from ..support.installation import Installation

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "contexts.md").read_text()
STEP = re.compile(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


def neutral(text: str) -> str:
    """Replace addresses and ids, which differ."""
    text = re.sub(r"\S+:\d+$", "ADDRESS", text, flags=re.MULTILINE)
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)


def test_the_commands_of_the_page(installation: Installation, tmp_path: Path) -> None:
    """Each prints the lines below it; `...` stands for any."""
    desk = tmp_path / "desk"
    desk.mkdir()
    for name in ("ca.crt", "writer.crt", "writer.key"):
        shutil.copy(installation.home / "pki" / name, desk)
    address = (installation.home / "address").read_text().strip()
    env = {**installation.env, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    steps = STEP.findall(PAGE)
    assert len(steps) == len(re.findall(r"^\$ ", PAGE, re.MULTILINE))
    for command, expected in steps:
        line = command.replace("127.0.0.1:7443", address)
        done = subprocess.run(
            ["sh", "-c", f"{line} 2>&1"], cwd=desk, env=env, capture_output=True, text=True, check=False
        )
        if expected != "...\n":
            assert neutral(expected) == neutral(done.stdout), command
        assert done.returncode == int("leave it first" in done.stdout), command
    files = sorted(path for path in (tmp_path / "config").rglob("*") if not path.is_dir())
    assert ["current"] == [path.name for path in files]
