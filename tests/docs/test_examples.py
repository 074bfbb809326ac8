"""What a reader would try: every file of examples/, and every piece of code in the README."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fl.cli.rules import read_policy
from fl.config.run import RunConfig
from tests.docs.typed import can_be_typed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
TOLD = {
    "anybodys_loop.py": "batches seen 50\nno number is 2e-4 off the plain mean: True",
    "asyncio_streams.py": "masked-input [0, 1, 2, 3] lost 4\nunmasking [0, 1, 2, 3]\nmean [0.15 0.15 0.15]",
    "fastapi_websockets.py": "mean [0.15 0.15 0.15] of [0, 1, 2, 3]",
    "in_process.py": "9 survivors, mean 0.4000",
    "over_the_network.py": "mean [0.1 0.1 0.1] of [0, 1, 2]",
    "my_task.py": "client 0 of 8 has 54 tumours, 36 of them benign, and tests on 143",
    "own_sockets.py": "sum of weights 60 correct 3",
    "stateless_workers.py": "bias [0.133 0.133] batches seen 1",
    "ray_executor.py": "the mean over 18 clients is within its bound",
}
NEEDS = {
    "fastapi_websockets.py": (
        ["fastapi", "uvicorn", "websockets"],
        "FastAPI: pip install fastapi uvicorn websockets",
    ),
    "ray_executor.py": (["ray"], "Ray: pip install 'secagg[ray]'"),
}
"""What an example does not run without, and what it says then."""


def code(language: str) -> list[str]:
    return [block for name, block in BLOCKS if name == language]


def typed() -> list[str]:
    """Every command line of the README: of its console blocks, and in the text."""
    lines = [line for block in code("console") for line in block.splitlines()]
    lines += re.findall(r"`(secagg [^`]+)`", README)
    said = (re.sub(r"\s+#.*", "", line) for line in lines)
    found = [match[1] for line in said if (match := re.match(r"(?:[\w ]*\$ )?(secagg .+)", line))]
    return sorted({line for line in found if "NAME" not in line})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_runs_as_its_reader_would_run_it(path: Path, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True)
    modules, words = NEEDS.get(path.name, ([], ""))
    if any(importlib.util.find_spec(module) is None for module in modules):
        assert (ran.returncode, ran.stderr) == (1, f"this example needs {words}\n")
        pytest.skip(f"it says what it needs: {words}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert TOLD[path.name] in ran.stdout


def test_websockets_take_fewer_than_sixty_lines() -> None:
    """Server and client, with roster and journal."""
    lines = (ROOT / "examples" / "fastapi_websockets.py").read_text().splitlines()
    assert len([line for line in lines if line]) < 60


def test_anybodys_loop_is_secure_by_two_lines() -> None:
    lines = (ROOT / "examples" / "anybodys_loop.py").read_text().splitlines()
    assert [line.strip() for line in lines if "secagg" in line] == [
        "import secagg",
        "mean = secagg.average(model.state_dict(), updates, bound=4.0).tree",
    ]


def test_the_code_of_the_readme_runs_as_it_stands() -> None:
    (lines,) = code("python")
    names: dict[str, object] = {}
    exec(lines, names)  # noqa: S102 - what a reader would paste
    total, updates = names["total"], names["updates"]
    error = np.abs(total.mean["update"] - np.mean(updates[:9], axis=0)).max()  # type: ignore[attr-defined, index]
    assert error <= total.error_bound["update"]  # type: ignore[attr-defined]


def test_the_run_of_the_readme_is_one(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(code("toml")[0])
    config = RunConfig.read(tmp_path / "run.toml", tell=pytest.fail)
    assert (config.training.epochs, config.server.optimiser, config.protection.corrupt) == (5, "adam", 2)


def test_the_policy_of_the_readme_is_one(tmp_path: Path) -> None:
    _, rules = code("toml")
    (tmp_path / "policy.toml").write_text(rules)
    assert read_policy(tmp_path / "policy.toml").batch == 5


@pytest.mark.parametrize("line", typed())
def test_a_command_line_of_the_readme_can_be_typed(line: str) -> None:
    can_be_typed(line)


@pytest.mark.parametrize(("target", "extras"), [("demo", "[fl]"), ("test", "[fl,ckks,flower,dev]")])
def test_make_says_that_it_installs_and_what(tmp_path: Path, target: str, extras: str) -> None:
    """In a fresh checkout: no more than is needed."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    ran = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True)
    (made, installing, installed) = (
        ran.stdout.index(words) for words in ("making .venv", "echo 'installing", extras)
    )
    assert made < installing < installed
    assert "--quiet" not in ran.stdout
