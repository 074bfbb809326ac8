from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Command, Ran, before

from fl.cli import main

HEAVY = ("torch", "torchvision", "sklearn", "matplotlib", "safetensors")


@pytest.fixture(autouse=True)
def _no_command_is_left() -> Iterator[None]:
    """Of a test that failed before it had ended them."""
    yield
    for command in list(Command.running):
        command.kill()


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command in this process, which is quicker; its client processes write to the same streams."""

    def run(*args: str) -> Ran:
        capfd.readouterr()
        code = main(args)
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which a process that imports torch, or another heavy package, ends at once."""
    folder: Path = tmp_path_factory.mktemp("without-torch")
    for module in HEAVY:
        (folder / f"{module}.py").write_text(f"raise SystemExit('{module} was imported')\n")
    return {"PYTHONPATH": before(folder)}
