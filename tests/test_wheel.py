"""The wheel in a virtual environment of its own, beside what it says that it needs and nothing else: of what
the environment of the tests has besides, it sees nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.docs.reference import MODULES

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "secagg", "transport", "fl", "secagg_flower")
NEED_EXTRAS = ("fl.training.local", "fl.preflight", "secagg_flower")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders beside what it is made of."""
    pytest.importorskip("setuptools", minversion="77")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    ran(*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(built), str(source))
    (found,) = built.glob("*.whl")
    return found


def ran(*command: str, cwd: Path | None = None, code: int = 0) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


class Installed:
    """The wheel in an environment. extras: whose packages are there, too, as links to those of this one."""

    def __init__(self, folder: Path, wheel: Path, extras: Sequence[str] = ()) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=False)
        self.bin = folder / "venv" / "bin"
        ran(*PIP, "--python", str(self.bin / "python"), "install", "--no-deps", "--no-index", str(wheel))
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (own,) = packages.glob("secagg-*.dist-info")
        for needed in needed_by(Distribution.at(own), set(extras), set()):
            for top in {file.parts[0] for file in needed.files or () if file.parts[0] not in ("..", "/")}:
                if not (packages / top).exists() and top != "__pycache__":
                    (packages / top).symlink_to(Path(str(needed.locate_file(top))))

    def python(self, code: str) -> str:
        return ran(str(self.bin / "python"), "-W", "error", "-c", code, cwd=self.folder)

    def secagg(self, *args: str, code: int = 0) -> str:
        return ran(str(self.bin / "secagg"), *args, cwd=self.folder, code=code)


def needed_by(of: Distribution, extras: set[str], seen: set[tuple[str, str]]) -> Iterator[Distribution]:
    """What pip would install with it, out of this environment."""
    for text in of.requires or ():
        requirement = Requirement(text)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in (*extras, "")):
            continue
        fresh = {(requirement.name, extra) for extra in (*requirement.extras, "")} - seen
        if fresh:
            seen |= fresh
            found = distribution(requirement.name)
            assert requirement.specifier.contains(found.version, prereleases=True), text
            yield found
            yield from needed_by(found, requirement.extras, seen)


def imports(modules: Sequence[str]) -> str:
    """Of all names that MODULES promises of these, as a user writes it."""
    lines = [f"from {module} import {', '.join(MODULES[module] or '*')}" for module in modules]
    return "\n".join([*lines, "import secagg", "print(secagg.__file__)"])


@pytest.mark.slow
def test_what_it_needs_it_says(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path, wheel)
    assert installed.python(imports([m for m in MODULES if m not in NEED_EXTRAS])).startswith(str(tmp_path))
    assert re.search(r"^torch +not installed", installed.secagg("info"), re.MULTILINE)
    told = installed.secagg("demo", "--clients", "3", "--length", "100", "--dropout", "0")
    assert "exact" in told
    assert "pip install 'secagg[fl]'" in installed.secagg("train", code=1)
    with pytest.raises(AssertionError, match=re.escape("pip install 'secagg[flower]'")):
        installed.python("import secagg_flower")


@pytest.mark.slow
def test_what_its_extras_need_they_say(wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")
    installed = Installed(tmp_path, wheel, ("fl", "ckks", "flower"))
    assert installed.python(imports(list(MODULES))).startswith(str(tmp_path))
    installed.secagg("report", "--out", "page")  # of what lies in the wheel beside the code
    assert (tmp_path / "page" / "report.html").stat().st_size > 10_000
    installed.secagg("train", "--dataset", "digits", "--clients", "3", "--rounds", "1", "--out", "run")
    assert (tmp_path / "run" / "model.safetensors").exists()
