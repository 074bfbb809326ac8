"""`secagg train --engine ray`: without Ray a line; with it what one process leaves, and end by Ctrl-C."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import Command, Ran, is_one_line, secagg

Here = Callable[..., Ran]

SMALL = ["--clients", "4", "--model", "logistic", "--no-baseline", "--rounds"]


def test_without_ray_one_line_says_what_to_install_and_nothing_is_lost(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "fl.cluster", raising=False)
    earlier = tmp_path / "run" / "metrics.jsonl"
    earlier.parent.mkdir()
    earlier.write_text("of an earlier run")
    line = [*SMALL, "1", "--engine", "ray", "--force", "--out", str(earlier.parent)]
    is_one_line(here("train", *line), 1, "this needs ray: pip install 'secagg[ray]'")
    assert earlier.read_text() == "of an earlier run"


needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra `ray`")


@pytest.mark.slow
@needs_ray
def test_a_run_goes_on_to_the_end_of_one_process_and_ctrl_c_leaves_nothing_behind(
    here: Here, tmp_path: Path
) -> None:
    """Interrupted, and resumed for two more rounds: as if one process had trained them all, to the bit."""
    folder, beside = tmp_path / "run", tmp_path / "beside"
    command = Command("train", *SMALL, "100000", "--engine", "ray", "--out", str(folder))
    assert "of a Ray cluster" in command.line_with("training and unmasking by ")
    command.line_with("round ")
    command.interrupt()
    ran = command.end()
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
    done = len((folder / "metrics.jsonl").read_text().splitlines())
    for name in ("config.json", "run.secret"):
        beside.mkdir(exist_ok=True)
        shutil.copy(folder / name, beside / name)
    rounds = ["--rounds", f"{done + 2}"]
    resumed = secagg("train", "--resume", "--out", str(folder), *rounds)
    assert (resumed.code, resumed.err) == (0, "")
    line = ["--config", str(beside / "config.json"), "--execution", "sequential", "--force"]
    assert here("train", *line, *rounds, "--out", str(tmp_path / "here")).code == 0
    ran, alone = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "here"))
    assert ran == alone


@pytest.mark.slow
@needs_ray
def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    line = ["train", *SMALL, "1", "--engine", "ray", "--out", str(tmp_path / "run")]
    ran = secagg(*line, env={"RAY_ADDRESS": "127.0.0.1:1"})
    is_one_line(ran, 1, "no Ray cluster at 127.0.0.1:1 (", "is it running? (RAY_ADDRESS)")
    assert not (tmp_path / "run").exists()
