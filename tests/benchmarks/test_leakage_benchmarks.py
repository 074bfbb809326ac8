"""The benchmarks of leakage run, at a size at which they say nothing, and measure what they say they do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

from benchmarks import gallery
from benchmarks.geiping import CLONE, SETTINGS, Engine
from benchmarks.harness import Row
from benchmarks.leakage import single
from benchmarks.report import FIGURES
from fl.data import DataError, Dataset
from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.views import View
from tests.benchmarks.cases import shown

rng = np.random.default_rng(0)
X, Y = rng.random((40, 1, 12, 12), dtype=np.float32), np.arange(40) % 10


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Of an attack that is told the truth, but for a tenth, and of a set that is not there."""
    asked = list[tuple[str, Budget]]()

    def load(name: str) -> Dataset:
        if name != "mnist":
            raise DataError(f"no {name} here")
        return Dataset(name, X[20:], Y[20:], X[:20], Y[:20], classes=10)

    def run(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        asked.append((attack, budget))
        assert (knowledge.plan.algorithm, knowledge.examples) == ("fedsgd", 1)
        assert [(part.members, part.examples) for part in view.parts] == [({u}, 1) for u in range(3)]
        return tuple(Found(x + 0.1 * (x < 0.5), Y[u : u + 1], 0.5, 1.0) for u, x in enumerate(X[:3, None]))

    monkeypatch.setattr(single, "load", load)
    monkeypatch.setattr(apart, "run", run)
    monkeypatch.delenv(CLONE, raising=False)
    made = [row for case in single.cases("quick", 0) for row in case.rows(lambda case, what: None)]
    assert asked == [("inversion", Budget(seconds=4.0, start="patterned"))]
    return made


def test_each_image_has_a_row_beside_the_best_guess(rows: list[Row]) -> None:
    there = [row for row in rows if "skipped" not in row]
    assert [(row["image"], row["label"]) for row in there] == [(u, True) for u in range(3)]
    for row in there:
        assert row["psnr"] == pytest.approx(20 + 10 * np.log10(2), abs=1.0)  # half the pixels are a tenth off
        assert row["baseline"] < 15
    assert [row["dataset"] for row in rows if "skipped" in row] == ["cifar-10"] * 2


def test_the_table_says_how_many_reach_the_target(rows: list[Row]) -> None:
    shown(single, rows)
    lines = [dict(zip(single.table(rows).header, line, strict=True)) for line in single.table(rows).rows]
    assert [(line["data"], line["images"], line["reached"]) for line in lines] == [
        ("mnist", "3", "0"),
        ("cifar-10", "not there", ""),
        ("cifar-10", "not there", ""),
    ]
    better = [row if "skipped" in row else row | {"psnr": 30.0} for row in rows]
    assert single.table(better).rows[0][7] == "3"


def test_an_image_is_inverted_from_what_a_plain_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "load", lambda name: Dataset(name, X, Y, X, Y, classes=10))
    (part, _) = single.session(replace(single.SETUPS[0], images=2), 0).view("server").parts
    assert part.updates.dtype == np.float64
    np.testing.assert_array_equal(part.updates, part.updates.astype(np.float32))  # as on the wire


THEIRS = """
import torch
from inversefed.nn import MetaMonkey
import torchvision
class GradientReconstructor:
    def __init__(self, model, mean_std, config, num_images):
        assert (mean_std[0].item(), mean_std[1].item(), num_images) == (0, 1, 1)
        self.model, self.config = model, config
    def reconstruct(self, gradient, labels, img_shape):
        print("it tells of its way")
        x = torch.randn((1, *img_shape), requires_grad=True)
        loss = torch.nn.functional.cross_entropy(self.model(x), labels)
        like = torch.autograd.grad(loss, self.model.parameters())
        assert [g.shape for g in like] == [g.shape for g in gradient]
        return torch.full((1, *img_shape), self.config["total_variation"]), {"opt": gradient[-1].sum().item()}
"""


@pytest.mark.slow
def test_geipings_engine_is_driven_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inversefed" / "nn").mkdir(parents=True)
    (tmp_path / "inversefed" / "__init__.py").write_text("import what_nobody_has_any_more")
    (tmp_path / "inversefed" / "nn" / "modules.py").write_text("class MetaMonkey: pass")
    (tmp_path / "inversefed" / "reconstruction_algorithms.py").write_text(THEIRS)
    monkeypatch.setattr(single, "load", lambda name: Dataset(name, X, Y, X, Y, classes=10))
    setup = replace(single.SETUPS[2], images=2)
    (row,) = single.run_case(setup, 0)
    assert "say where one is by SECAGG_GEIPING=FOLDER" in row["skipped"]
    monkeypatch.setenv(CLONE, str(tmp_path))
    rows = [row for row in single.run_case(setup, 0) if isinstance(row, dict)]
    assert [(row["image"], row["loss"], "budget" in row) for row in rows] == [
        (0, ANY, False),
        (1, ANY, False),
    ]
    round = single.session(setup, 0)
    view = round.view("server")
    found = Engine.found()(view, round.knowledge, Budget(), 0)
    for u, (one, part) in enumerate(zip(found, view.parts, strict=True)):
        assert one.images is not None
        np.testing.assert_allclose(one.images, np.full((1, 1, 12, 12), SETTINGS["total_variation"]), 1e-6)
        assert one.labels.tolist() == [Y[u]]
        assert one.loss == pytest.approx(part.updates[0][-10:].sum(), abs=1e-6)
    assert capfd.readouterr().out == ""


def test_a_gallery_shows_what_is_found_in_single_updates_and_in_a_masked_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        shades = {1: 0.5, 10: 0.0}
        return tuple(
            Found(np.full((n, *knowledge.model.shape), shades[n]), np.zeros(n, np.int64))
            for n in (len(part.members) for part in view.parts)
        )

    monkeypatch.setattr(apart, "run", run)
    said = gallery.drawn("digits", tmp_path)
    grey, black = (float(db) for db in re.findall(r"(?:update|of 10) (\d+\.\d) dB", said))
    assert grey > black
    assert (tmp_path / "leakage-digits.png").read_bytes().startswith(b"\x89PNG")


def test_the_galleries_of_the_page_are_there_are_small_and_show_no_faces() -> None:
    page = (FIGURES.parent / "leakage.md").read_text()
    assert "lfw" not in gallery.DATASETS
    for dataset in gallery.DATASETS:
        assert f"(figures/leakage-{dataset}.png)" in page
        assert (FIGURES / f"leakage-{dataset}.png").stat().st_size < 150_000
