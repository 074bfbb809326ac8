"""The dependency rule of docs/architecture.md, `secagg <- transport <- fl`, read off every file's imports."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

INSTALLED = ("secagg", "transport", "fl", "secagg_flower")

# Which of our own packages a folder or file may import. The longest prefix that fits a path decides.
OURS = {
    "benchmarks/": {"secagg", "transport", "fl", "secagg_flower", "benchmarks"},
    "secagg/": {"secagg"},
    "transport/": {"secagg", "transport"},
    "fl/": {"secagg", "fl"},
    "fl/federation/": {"secagg", "transport", "fl"},
    "fl/cli/": {"secagg", "transport", "fl"},
    "secagg_flower/": {"secagg", "transport", "secagg_flower"},
}
# What it never imports besides. Every prefix that fits a path counts.
NO_INPUT_OR_OUTPUT = {
    *("socket", "asyncio", "threading", "multiprocessing", "subprocess", "concurrent", "time", "logging"),
    *("random", "numpy.random", "torch", "pickle", "zmq", "pathlib", "importlib"),
}
TORCH = {"torch", "safetensors.torch", "fl.models", "fl.training.local", "fl.data.vision"}
GROUND = {"fl.cohort", "fl.training", "fl.privacy", "fl.robust", "fl.federation", "fl.page", "fl.cli"}
"""What configuration, data and models know nothing of."""
NEVER = {
    "secagg/": NO_INPUT_OR_OUTPUT,
    "transport/": {"torch", "typer", "flwr"},
    "fl/config/": {*GROUND, *TORCH},
    "fl/data/": {*GROUND, "fl.config", "fl.models", "fl.poisoning"},
    "fl/models/": {*GROUND, "fl.config", "fl.poisoning"},
    "fl/cohort/": {*TORCH, *GROUND - {"fl.cohort"}},
    "fl/training/": GROUND - {"fl.training"},
    "fl/training/checkpoint.py": TORCH,
    "fl/privacy/accounting.py": TORCH,
    "fl/privacy/releases.py": TORCH,
    "fl/privacy/": GROUND - {"fl.training", "fl.privacy"},
    "fl/federation/": {"fl.page", "fl.cli"},
    # An attack has what a party saw, and nothing of what it is to find out.
    "fl/leakage/": {"fl.data", "fl.poisoning", *GROUND},
    "fl/poisoning/": {*GROUND, *TORCH, "fl.leakage", "fl.config"},
    "fl/robust/": {*GROUND - {"fl.robust"}, "fl.leakage", "fl.poisoning"},
    # A page shows what a run leaves or is told: it computes nothing of it.
    "fl/page/": {*GROUND - {"fl.page"}, *TORCH, "fl.leakage", "fl.poisoning"},
    # Another framework is known to what is made for it alone, whose models are not all torch's.
    "fl/": {"flwr"},
    "secagg_flower/": {"torch"},
}
# A clock only to compare two ways to the same bytes, once; tasks only to await what a caller hands in.
EXCEPT = {"secagg/prg.py": {"time"}, "secagg/aio.py": {"asyncio"}}
# Third parties of the core, and where: everywhere, or in these files alone.
THIRD_PARTIES_OF_SECAGG = {
    "numpy": None,
    "flint": None,
    "msgspec": None,
    "cryptography": {"secagg/crypto.py", "secagg/prg.py"},
    "tenseal": {"secagg/ckks/seal.py"},
    "zstandard": {"secagg/ckks/seal.py"},
}
NEVER_CALLED_IN_SECAGG = {"open", "print", "input", "exec", "eval", "__import__"}

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in (*INSTALLED, "benchmarks")
    for path in (ROOT / package).rglob("*.py")
)


def imported(path: str, tree: ast.AST) -> Iterator[str]:
    """Every dotted name that an import statement anywhere in the file could mean."""
    package = Path(path).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def violations(path: str, source: str) -> list[str]:
    """What a file at this path does against the tables."""
    tree = ast.parse(source)
    found = []
    ours = OURS[max((prefix for prefix in OURS if path.startswith(prefix)), key=len)]
    never = set().union(*(modules for prefix, modules in NEVER.items() if path.startswith(prefix)))
    never -= EXCEPT.get(path, set())
    for name in imported(path, tree):
        top = name.partition(".")[0]
        if (top in {*INSTALLED, "benchmarks", "tests"} - ours) or within(name, never):
            found.append(f"imports {name}")
        elif path.startswith("secagg/") and top not in {"secagg", *sys.stdlib_module_names}:
            files = THIRD_PARTIES_OF_SECAGG.get(top, set())
            if files is not None and path not in files:
                found.append(f"imports {name}")
    if path.startswith("secagg/"):
        found += forbidden_uses(tree)
    return found


def forbidden_uses(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in NEVER_CALLED_IN_SECAGG:
                yield f"calls {name}"
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random"):
                yield "uses numpy.random"
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name != "urandom":
                yield f"uses os.{name}"


@pytest.mark.parametrize("path", FILES)
def test_imports_point_one_way(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_nothing_of_ours_needs_asyncio() -> None:
    """Whoever has no loop gets none: `secagg.aio` is imported by those alone who ask for it."""
    for path in FILES:
        names = set(imported(path, ast.parse((ROOT / path).read_text(encoding="utf-8"))))
        assert not within("secagg.aio", names - {"secagg"}), path
        assert path == "secagg/aio.py" or "asyncio" not in names or not path.startswith("secagg/"), path


def test_no_file_imports_in_a_circle() -> None:
    """Not even for its types: what two files need of each other stands below both. Only a folder's own files
    may name its face, such as a scheme's client the scheme.
    """
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in FILES}
    graph = {
        module: {
            name if name in modules else name.rpartition(".")[0]
            for name in imported(path, ast.parse((ROOT / path).read_text(encoding="utf-8")))
        }
        & {name for name in modules if not module.startswith(name)}
        for module, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def test_the_page_has_every_room_and_none_that_is_not_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+)`", page.partition("## How one vector")[0]))
    rooms = {path.split("/")[1] for path in FILES if path.split("/")[0] in INSTALLED}
    assert {room.removesuffix(".py") for room in rooms} - {"__init__"} <= {name.strip("/") for name in named}
    under = ("", *INSTALLED)
    paths = [name for name in re.findall(r"`([\w./]+)`", page) if "/" in name or name.endswith(".py")]
    assert [path for path in paths if not any((ROOT / folder / path).exists() for folder in under)] == []


def test_the_files_of_the_core_are_among_those_checked() -> None:
    assert {"secagg/crypto.py", "secagg/masking/client.py", "secagg/session.py"} <= set(FILES)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        *(("secagg/masking/new.py", f"import {module}") for module in sorted(NO_INPUT_OR_OUTPUT)),
        ("secagg/new.py", "import os.path, threading"),
        ("secagg/new.py", "from concurrent.futures import ThreadPoolExecutor"),
        ("secagg/new.py", "def late():\n    import torch.nn as nn"),
        ("secagg/new.py", "from numpy import random"),
        ("secagg/new.py", "from numpy.random import default_rng"),
        ("secagg/new.py", "import numpy as np\nx = np.random.default_rng()"),
        ("secagg/new.py", "import os\nos.open('f', 0)"),
        ("secagg/new.py", "def f():\n    return open('f').read()"),
        ("secagg/new.py", "import scipy"),
        ("secagg/new.py", "from transport import serve"),
        ("secagg/masking/new.py", "from ... import transport"),
        ("secagg/masking/new.py", "from ...fl import models"),
        ("secagg/shamir.py", "from cryptography.exceptions import InvalidTag"),
        ("secagg/new.py", "import fl.models.architectures"),
        ("secagg/new.py", "from tests.secagg import helpers"),
        ("transport/new.py", "import fl"),
        ("transport/new.py", "from torch import nn"),
        ("transport/new.py", "import typer"),
        *(
            (f"fl/{folder}/new.py", source)
            for folder in ("config", "data", "models", "cohort", "training")
            for source in ("import transport", "from fl.federation.server import Server", "import fl.cli")
        ),
        *(
            (f"fl/{file}.py", source)
            for file in ("config/new", "cohort/new", "training/checkpoint")
            for source in ("import torch", "from fl.models.architectures import build")
        ),
        ("fl/config/new.py", "from fl.cohort.links import Link"),
        ("fl/data/new.py", "from fl import training"),
        ("fl/data/new.py", "from .. import training"),
        ("fl/models/new.py", "from fl.training import local"),
        ("fl/cohort/new.py", "from fl.training.server import GlobalModel"),
        ("fl/training/new.py", "from fl.cohort.layout import Layout"),
        ("fl/privacy/new.py", "from fl.federation.task import Instructions"),
        ("fl/federation/new.py", "from fl.cli import main"),
        *(
            ("fl/leakage/new.py", source)
            for source in (
                "from fl.data import load",
                "from fl.cohort.layout import Layout",
                "import fl.federation.simulation",
                "from fl.robust.rules import mean",
                "from fl.training.local import train",
            )
        ),
        ("fl/robust/new.py", "from fl.training.local import train"),
        ("fl/page/new.py", "from fl.federation.records import RoundRecord"),
        ("fl/page/new.py", "from transport import RoundReport"),
        ("fl/poisoning/new.py", "from fl.robust import Points"),
        ("fl/poisoning/new.py", "from fl.training.server import GlobalModel"),
        ("fl/training/new.py", "from fl.privacy.accounting import epsilon"),
        ("fl/privacy/accounting.py", "import torch"),
        ("fl/privacy/releases.py", "import torch"),
        ("fl/cli/new.py", "import benchmarks"),
        ("secagg/new.py", "import flwr"),
        ("transport/new.py", "import secagg_flower"),
        ("fl/cli/new.py", "from flwr.serverapp import Grid"),
        ("secagg_flower/new.py", "from fl.models import build"),
        ("secagg_flower/new.py", "import torch"),
    ],
)
def test_the_checker_catches_a_violation(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("secagg/new.py", "import os, hashlib, numpy as np\nx = os.urandom(np.uint8(3))\nfile.open()"),
        ("secagg/crypto.py", "from cryptography.exceptions import InvalidTag"),
        (
            "secagg/masking/new.py",
            "from ..wire import decode\nfrom . import messages",
        ),
        ("transport/new.py", "import zmq, threading\nfrom secagg import run"),
        ("fl/federation/new.py", "import torch, transport, secagg\nfrom fl.training import local"),
        ("fl/training/checkpoint.py", "from fl.config.run import ConfigError"),
        ("fl/training/server.py", "from fl.config.plan import ServerStep"),
        ("fl/leakage/new.py", "import torch, secagg.record\nfrom fl.models.architectures import build"),
        ("fl/privacy/new.py", "import torch, secagg.noise\nfrom fl.training.step import PerExample"),
        ("fl/cli/new.py", "import typer, torch, transport, secagg, fl.federation"),
        ("secagg_flower/new.py", "import flwr, transport\nfrom secagg import tickets"),
    ],
)
def test_the_checker_lets_pass_what_is_allowed(path: str, source: str) -> None:
    assert violations(path, source) == []
