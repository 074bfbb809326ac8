"""`secagg attack face`: an image of each class out of a run's model, beside its first weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Ran

from fl.cli.classes import Classes, Outcome, attacked, trained
from fl.cli.face import described, sentence
from fl.cohort.layout import lay_out
from fl.config.secret import RunSecrets
from fl.leakage.attack import Budget, Found
from fl.leakage.verdicts import FAILED, LEAKS, MISSED, NOTHING, TOO_FEW, of_model
from fl.leakage.views import View
from fl.models.architectures import build
from fl.models.weights import to_vector

rng = np.random.default_rng(0)
MEANS = rng.random((10, 1, 8, 8))


def cell(*wrong: int) -> Classes:
    images = 0.2 * MEANS + 0.4
    images[list(wrong)] = 0.2 * MEANS[[(c + 1) % 10 for c in wrong]] + 0.4
    return Classes(View(()), MEANS, images, (Found(images, np.arange(10)),))


def test_a_class_is_right_where_its_own_mean_is_nearest_whatever_the_contrast() -> None:
    assert (cell().hits, cell().found) == (10, True)
    assert cell(2, 7).right.tolist() == [c not in (2, 7) for c in range(10)]
    assert cell(*range(7)).found is False  # three of ten may be chance
    assert cell(*range(6)).found is True
    two = Classes(View(()), MEANS[:2], MEANS[:2], ())
    assert two.found is None


@pytest.mark.parametrize(
    ("seen", "first", "word"),
    [
        (cell(), cell(*range(9)), LEAKS),
        (cell(), cell(), FAILED),
        (cell(*range(9)), cell(*range(9)), MISSED),
        (None, cell(*range(9)), NOTHING),
    ],
)
def test_what_a_model_gives_away_is_held_against_its_first_weights(
    seen: Classes | None, first: Classes, word: str
) -> None:
    outcome = Outcome(seen, first, "it has no model")
    assert outcome.verdict == word
    said = sentence(described({}, 4, 30, 8, 2, 0), "server", frozenset(), outcome)
    assert said.startswith("masking: the server ")
    assert ("it leaks" in said) == (word == LEAKS)
    assert ("first weights give 10 of 10" in said) == (word == FAILED)
    assert of_model(None, untrained=False, few=True) == TOO_FEW


def test_who_has_the_model_attacks_it_whatever_summed_it() -> None:
    config = described({"scheme": "masking"}, 4, 100, 16, 3, 0)
    run = trained(config, lay_out(config), RunSecrets.of_seed(0))
    np.testing.assert_array_equal(run.first, to_vector(build("logistic", (1, 8, 8), 10, 0)))
    for party in ("server", "participant", "client", "colluders"):
        (part,) = run.view(party).parts
        np.testing.assert_array_equal(part.updates[0], run.parameters)
    assert [run.view(party).parts for party in ("relay", "eavesdropper")] == [(), ()]
    outcome = attacked(run, "server", Budget(seconds=600, iterations=300), 0)
    assert outcome.verdict == LEAKS
    assert outcome.cells.keys() == {"seen", "untrained"}
    assert attacked(run, "eavesdropper", Budget(iterations=1), 0).verdict == NOTHING


def test_where_the_clients_keep_the_model_the_server_has_none() -> None:
    pytest.importorskip("tenseal")
    config = described({"scheme": "ckks", "ending": "keep"}, 3, 40, 16, 1, 0)
    run = trained(config, lay_out(config), RunSecrets.of_seed(0))
    assert "the clients keep the model" in run.view("server").why
    (part,) = run.view("participant").parts
    assert not np.array_equal(part.updates[0], run.first)


def test_a_run_is_trained_attacked_and_told(here: Callable[..., Ran], tmp_path: Path) -> None:
    line = ["attack", "face", "--round", "3", "--images", "100", "--batch", "16", "--time", "1", "--json"]
    ran = here(*line, "--out", str(tmp_path / "face"))
    assert ran.code == 0, ran
    (told,) = ran.records
    assert told == json.loads((tmp_path / "face" / "report.json").read_bytes())
    assert (told["attack"], told["verdict"], told["config"]["rounds"]) == ("face", LEAKS, 3)
    assert told["accuracy"] > 0.5
    there = {path.name for path in (tmp_path / "face").iterdir()}
    assert there == {"report.json", "seen.png", "untrained.png"}
