"""What pyproject.toml can't say: ``conf/``, ``sweeps/`` and ``slurm/`` travel inside the package."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("conf", "sweeps", "slurm")


class WithConfiguration(build_py):
    """Copies the folders of the repository's top level too; an editable install reads them where they lie."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for target, source in self._configuration().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_source_files(self) -> list[str]:
        """What a source distribution holds."""
        return [*super().get_source_files(), *self._configuration().values()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self._configuration()]

    def get_output_mapping(self) -> dict[str, str]:
        return {**super().get_output_mapping(), **self._configuration()}

    def _configuration(self) -> dict[str, str]:
        files = (f for folder in FOLDERS for f in sorted(Path(folder).rglob("*")) if f.is_file())
        return {str(Path(self.build_lib, "spikefront", file)): str(file) for file in files}


setup(cmdclass={"build_py": WithConfiguration})
