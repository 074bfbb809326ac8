"""The example in both of Flower's runtimes, as `flwr run` starts it, with a node that is killed between its
shares and its update; and how much of it is ours.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.engines import PATIENCE, Engine, deployment, simulation

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"
NODES, KILLED = 5, 4
SECURE = {
    "client_app.py": (
        ("from secagg_flower import secure_mod\n", ""),
        ("ClientApp(mods=[secure_mod()])", "ClientApp()"),
    ),
    "server_app.py": (
        ("from secagg_flower import SecureGrid\n", ""),
        ("    grid = SecureGrid(grid, bound=4.0, max_weight=1000, strategy=strategy)\n", ""),
    ),
}
"""What of each file is there for secure aggregation, and what stands in its place without."""

KILLING = """
import os
import signal


def killing(message, context, call_next):
    said = message.content.config_records.get("secagg", {})
    if context.node_config["partition-id"] == %d and said.get("round") == "masked-input":
        %s
    return call_next(message, context)
"""


def test_an_app_is_secure_by_four_lines() -> None:
    changed = 0
    for name, pairs in SECURE.items():
        secure = plain = (EXAMPLE / "digits" / name).read_text()
        for ours, without in pairs:
            assert plain.count(ours) == 1
            plain = plain.replace(ours, without)
        assert "secagg" not in plain
        changed += sum(line.startswith("+ ") for line in difflib.ndiff(plain.split("\n"), secure.split("\n")))
    assert changed == 4


def app_that_falls(folder: Path, how: str, roster: Path | None = None) -> Path:
    """The example, whose last node dies where it would upload. There is no evaluation: that waits for it.
    roster: of its server.
    """
    app = folder / "app"
    shutil.copytree(EXAMPLE, app, ignore=shutil.ignore_patterns("__pycache__"))
    package = app / "digits"
    (package / "killing.py").write_text(KILLING % (KILLED, how))
    client, server = package / "client_app.py", package / "server_app.py"
    text = client.read_text().replace("mods=[", "mods=[killing, ")
    client.write_text(
        text.replace("from digits.task", "from digits.killing import killing\nfrom digits.task")
    )
    text = server.read_text().replace("FedAvg(", "FedAvg(fraction_evaluate=0.0, ")
    if roster is not None:
        text = text.replace("SecureGrid(grid, ", f'SecureGrid(grid, roster="{roster}", ')
    server.write_text(text)
    return app


def task() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_task", EXAMPLE / "digits" / "task.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mean_of(partitions: Iterator[int] | range) -> dict[str, Any]:
    """What FedAvg makes of these nodes' training, by hand."""
    learning = task()
    models, examples = [], []
    for i in partitions:
        model = learning.initial()
        x, y = learning.share(i, NODES)
        learning.train(model, x, y, 0.5)
        models.append(model)
        examples.append(len(x))
    return {
        name: np.average([np.asarray(model[name], np.float64) for model in models], axis=0, weights=examples)
        for name in models[0]
    }


def runtime(name: str, folder: Path) -> AbstractContextManager[Engine]:
    """In the deployment each node names the key of a client of the roster; both lie in the folder."""
    if name == "simulation":
        return simulation(folder)
    return deployment(
        folder, NODES, lambda i: f'secagg-key="{folder}/{i}.key" secagg-roster="{folder}/roster"'
    )


# In the simulation a node is no process: an actor of Ray's is many nodes in turn. Over a network it is all
# that its SuperNode has started.
RAISES, KILLS = "raise SystemError(signal.SIGKILL)", "os.killpg(0, signal.SIGKILL)"


# Of a deployment without a roster a round is run, and its mean checked, where it is measured.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how", "against"),
    [
        ("simulation", RAISES, "honest-but-curious server"),
        ("deployment with a roster", KILLS, "active server"),
    ],
)
def test_the_mean_in_a_runtime_is_that_of_who_is_left(
    name: str, how: str, against: str, keys: Path, tmp_path: Path
) -> None:
    pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")
    if name == "simulation":
        pytest.importorskip("ray", reason="needs Ray: pip install 'secagg[ray]'")
    app = app_that_falls(tmp_path, how, keys / "roster" if against == "active server" else None)
    out = tmp_path / "out.npz"
    config = f'num-server-rounds=1 out="{out}"'
    federation = f"num-supernodes={NODES} client-resources-num-cpus=1" if name == "simulation" else ""
    with runtime(name, tmp_path) as engine:
        run = engine.submit(app, config, federation)
        try:
            said, _ = run.communicate(timeout=2 * PATIENCE)
        except subprocess.TimeoutExpired:
            run.kill()
            said, _ = run.communicate()
    assert against in said
    told = re.search(rf"the mean of {NODES - 1} of {NODES} clients, within (\S+)", said)
    assert told is not None, said[-3000:]
    assert f"Received {NODES - 1} results and 1 failures" in said
    expected = mean_of(range(NODES - 1))
    with np.load(out) as found:
        for key in ("w", "b"):
            assert np.abs(found[key] - expected[key]).max() <= 1.05 * float(told[1])  # two digits; float32
        assert found["steps"] == 20
