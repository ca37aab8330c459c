"""What setuptools does differently here: see [tool.setuptools.cmdclass] in pyproject.toml."""

import shutil
from pathlib import Path
from typing import ClassVar

import man_pages
from setuptools import Command
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError
from wheel_kind import CLIENT, SERVER_PARTS, wheel_kind, wheel_tag
from zygote_compiler import SOURCE, CompilationFailed, compile_zygote


class Build(build):
    """Builds the modules, then the server's program and the man pages."""

    sub_commands: ClassVar = [*build.sub_commands, ("build_server", None), ("build_man_pages", None)]


class BuildServer(Command):
    """Compiles the zygote beside the modules; the client has no zygote, and no modules of the server."""

    user_options: ClassVar = []
    editable_mode = False
    """Set by setuptools: the modules stay in the source tree, and so does the program."""

    def initialize_options(self) -> None:
        self.build_lib = ""

    def finalize_options(self) -> None:
        self.build_lib = self.get_finalized_command("build").build_lib

    def run(self) -> None:
        kind = wheel_kind()
        package = Path(self.build_lib) / "worker"
        if kind != CLIENT:
            directory = SOURCE if self.editable_mode else package / "linux" / "zygote"
            try:
                compile_zygote(kind, directory / "zygote")
            except CompilationFailed as error:
                raise CompileError(str(error)) from None
        elif not self.editable_mode:
            for part in SERVER_PARTS:
                (package / part).unlink() if part.endswith(".py") else shutil.rmtree(package / part)


class BuildManPages(Command):
    """Makes the man pages; an editable installation has none."""

    user_options: ClassVar = []
    editable_mode = False

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        if not self.editable_mode:
            man_pages.make()
            self.distribution.data_files = man_pages.installed()


class Sdist(sdist):
    """Contains the man pages."""

    def run(self) -> None:
        man_pages.make()
        super().run()


class BdistWheel(bdist_wheel):
    """Makes a wheel for any Python: of an architecture, or of the client."""

    def finalize_options(self) -> None:
        if wheel_kind() != CLIENT:
            # The program belongs into the directory for one architecture, as extension modules do.
            self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        return wheel_tag(wheel_kind())

    def run(self) -> None:
        # It may contain modules of an earlier build, which are not in this wheel.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()
