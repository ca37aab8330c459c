"""Kernel, initrd and root disk of the guest: built once per machine and recipe."""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
RECIPE = ("build-image.sh", "extract_kernel.py", "init", "agent.py", "agent.service")
BUILD_TIMEOUT = 1200.0


class GuestUnavailableError(Exception):
    """This machine cannot run a guest; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Image:
    """The files that qemu boots from; the guest does not write to them."""

    directory: Path

    @property
    def kernel(self) -> Path:
        """ELF file with the PVH entry point, which needs no boot loader."""
        return self.directory / "vmlinux"

    @property
    def initrd(self) -> Path:
        """The modules for the root disk, and the script that loads them."""
        return self.directory / "initrd.img"

    @property
    def root(self) -> Path:
        """An ext4 file system on a raw disk."""
        return self.directory / "root.ext4"

    @property
    def python(self) -> str:
        """The version of Python in the guest, as in 3.11."""
        return (self.directory / "python").read_text().strip().removeprefix("python")


def find_image() -> Image:
    """Return the image; build it if it does not exist.

    Raises GuestUnavailableError where it cannot be built, RuntimeError if a build fails.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worker-guest"
    image = cache / _recipe_hash()
    if image.is_dir() and shutil.which("qemu-system-x86_64"):
        return Image(image)
    _refuse_where_none_can_be_built()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        for other in cache.iterdir():  # of earlier recipes, and of interrupted builds
            if other.is_dir() and other != image:
                shutil.rmtree(other)
        _build(image)
    return Image(image)


def _recipe_hash() -> str:
    return sha256(b"\0".join((HERE / name).read_bytes() for name in RECIPE)).hexdigest()[:16]


def _refuse_where_none_can_be_built() -> None:
    if platform.machine() != "x86_64":
        raise GuestUnavailableError(f"the guest is an x86_64 machine, but this is {platform.machine()}")
    if os.geteuid() != 0:
        raise GuestUnavailableError("only root can build the guest; once built every user can run it")
    if not shutil.which("apt-get") or platform.freedesktop_os_release().get("ID") != "debian":
        raise GuestUnavailableError("the guest is built from the apt sources of a Debian machine")


def _build(image: Path) -> None:
    """Build in another directory and rename it, so that an existing image is complete."""
    aside = Path(tempfile.mkdtemp(prefix="build-", dir=image.parent))
    done = subprocess.run(
        [HERE / "build-image.sh", aside],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=BUILD_TIMEOUT,
    )
    if done.returncode != 0:
        shutil.rmtree(aside)
        raise RuntimeError(f"building the guest failed:\n{done.stdout.decode(errors='replace')}")
    shutil.rmtree(image, ignore_errors=True)
    aside.rename(image)
