from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import pytest
from commands import Command, Ran, before

from fl.cli import main
from fl.data import DATASETS, Dataset
from tests.fl.leakage.helpers import attack_here

HEAVY = ("torch", "torchvision", "sklearn", "matplotlib", "safetensors")


@pytest.fixture(autouse=True)
def _no_command_is_left() -> Iterator[None]:
    """Of a test that failed before it had ended them."""
    yield
    for command in list(Command.running):
        command.kill()


@pytest.fixture(autouse=True)
def _nothing_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long in a small run and tells nothing new, in this process: pictures are files without a
    picture (test_train looks at those of a whole run, tests/fl draws deals), text is read once, and attacks
    need no process of their own.
    """

    def without_pixels(figure: Any, to: Any, **how: Any) -> None:
        to.write(PNG) if isinstance(to, io.BytesIO) else Path(to).write_bytes(PNG)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", without_pixels)
    monkeypatch.setattr("fl.leakage.apart.run", attack_here)
    monkeypatch.setitem(DATASETS, "text", wraps(DATASETS["text"])(lambda root: text()))


PNG = b"\x89PNG\r\n\x1a\n"


@lru_cache(maxsize=1)
def text(read: Callable[[Path], Dataset] = DATASETS["text"]) -> Dataset:
    return read(Path())  # which folder does not matter: Python's own is read


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
