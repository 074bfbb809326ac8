"""Decoys: what they are made of and matched in, and that a run that sends them is the run without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fl.cohort.layout import lay_out
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data.shard import Shard
from fl.federation import decoys as module
from fl.federation.client import LocalTrainer
from fl.federation.decoys import KINDS, Training, decoys, like
from fl.federation.records import Trained
from fl.federation.server import Server
from fl.federation.simulation import SimulatedCohort
from fl.federation.task import write_instructions
from fl.models.architectures import Description, build
from fl.models.weights import to_vector
from fl.training.local import Diverged, LocalResult, train
from secagg import Among, Bounded, Decoys, Masking, RemoteProtocolError, Weight, run
from secagg.decoys.messages import Candidates
from secagg.record import Recorder
from secagg.wire import decode

SHAPE, CLASSES = (1, 2, 2), 3
PLAN = LocalPlan(epochs=2, batch_size=4)
MODEL = build("mlp", SHAPE, CLASSES, 0)
LAYERS = [4 * 64, 64, 64 * CLASSES, CLASSES]
X = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0] * 9 + [1] * 7 + [2] * 4)


def training(**more: Any) -> Training:
    return Training(MODEL, X, Y, CLASSES, PLAN, **more)


def true() -> LocalResult:
    return train(MODEL, X, Y, PLAN, bytes(32))


def statistics(upload: np.ndarray) -> np.ndarray:
    """Mean, deviation and norm of each layer, and the norm of all."""
    parts = np.split(upload.astype(np.float64), np.cumsum(LAYERS)[:-1])
    return np.array([(part.mean(), part.std(), np.linalg.norm(part)) for part in parts])


# What they are


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoy_has_the_norms_and_the_statistics_of_the_true_update_in_every_layer(kind: str) -> None:
    result, it = true(), training(earlier=to_vector(build("mlp", SHAPE, CLASSES, 1)))
    (bare,) = decoys(it, result, 1, kinds=[kind], matched=False)
    (made,) = decoys(it, result, 1, kinds=[kind])
    np.testing.assert_allclose(statistics(made.upload), statistics(result.upload), rtol=1e-4, atol=1e-7)
    assert not np.allclose(statistics(bare.upload), statistics(result.upload), rtol=1e-2, atol=1e-7)
    assert made.upload.dtype == result.upload.dtype
    assert np.corrcoef(made.upload, result.upload)[0, 1] < 0.99


def test_what_goes_along_with_an_update_is_the_same_in_all() -> None:
    result = true()
    for made in decoys(training(), result, 3):
        assert (made.examples, made.loss, made.correct) == (result.examples, result.loss, result.correct)


def test_no_two_decoys_are_alike_and_none_is_the_same_again() -> None:
    uploads = [made.upload.tobytes() for _ in range(2) for made in decoys(training(), true(), 4)]
    assert len(set(uploads)) == 8


def labels(kind: str, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    trained: list[torch.Tensor] = []
    monkeypatch.setattr(Training, "of", lambda self, model, y: trained.append(y) or true())
    KINDS[kind](training())
    return trained[0]


def test_other_labels_are_those_of_another_class_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        renamed = {(int(a), int(b)) for a, b in zip(Y, labels("other-labels", monkeypatch), strict=True)}
        assert len(renamed) == len({b for _, b in renamed}) == CLASSES
        assert any(a != b for a, b in renamed)


def test_shuffled_labels_are_as_many_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = labels("shuffled-labels", monkeypatch)
    assert torch.bincount(shuffled).tolist() == [9, 7, 4]
    assert shuffled.tolist() != Y.tolist()


def test_an_earlier_model_is_trained_from_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[np.ndarray] = []

    def of(self: Training, model: torch.nn.Module, y: torch.Tensor) -> LocalResult:
        started.append(to_vector(model))
        return true()

    monkeypatch.setattr(Training, "of", of)
    now, earlier = to_vector(MODEL), to_vector(build("mlp", SHAPE, CLASSES, 1))
    decoys(training(), true(), 3)
    assert [start.tobytes() for start in started] == [now.tobytes()] * 3
    started.clear()
    decoys(training(earlier=earlier), true(), 4)
    assert [start.tobytes() for start in started] == [v.tobytes() for v in (now, now, earlier, now)]
    assert to_vector(MODEL).tobytes() == now.tobytes()


def test_a_decoy_whose_training_diverges_is_the_true_update_with_its_layers_shuffled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of(self: Training, model: torch.nn.Module, y: torch.Tensor) -> LocalResult:
        raise Diverged("far away")

    monkeypatch.setattr(Training, "of", of)
    result = true()
    (made,) = decoys(training(), result, 1)
    for part, due in zip(
        *(np.split(v, np.cumsum(LAYERS)[:-1]) for v in (made.upload, result.upload)), strict=True
    ):
        np.testing.assert_allclose(np.sort(part), np.sort(due), rtol=1e-4, atol=1e-7)
    assert not np.allclose(made.upload, result.upload)


def test_a_layer_with_nothing_of_its_own_takes_the_true_one_in_another_order() -> None:
    due = np.arange(50.0)
    made = like(np.zeros(50), due, [50])
    assert sorted(made) == due.tolist() != made.tolist()
    assert like(np.arange(3.0), np.ones(3), [3]).tolist() == [1.0] * 3


# What is sent


def test_a_client_gives_its_update_among_decoys_where_the_session_asks_for_them() -> None:
    config = RunConfig.of(clients=3, model="mlp", local_epochs=1, batch_size=4)
    task = write_instructions(config, bytes(16), 1, Description("mlp", SHAPE, CLASSES), to_vector(MODEL))
    specs = {"update": Bounded(length=sum(LAYERS), bound=3.0), "examples": Weight(maximum=20)}
    trainer = LocalTrainer(0, Shard(X.numpy(), Y.numpy(), CLASSES, "tiny"), "cpu", bytes(32))
    trainer.offered(Masking.for_cohort(3, specs))
    bare = trainer(task)
    trainer.offered(Decoys.for_cohort(3, specs, candidates=4))
    among = trainer(task)
    assert isinstance(among, Among)
    assert not isinstance(bare, Among)
    assert among["update"].tobytes() == bare["update"].tobytes()
    assert [decoy.keys() for decoy in among.decoys] == [specs.keys()] * 3
    assert [decoy["examples"] for decoy in among.decoys] == [20] * 3
    run(Decoys.for_cohort(3, specs, candidates=4), dict.fromkeys(range(3), among))


def test_decoys_are_thinned_as_what_is_true() -> None:
    config = RunConfig.of(clients=3, model="mlp", local_epochs=1, batch_size=4, compress=0.9)
    task = write_instructions(config, bytes(16), 1, Description("mlp", SHAPE, CLASSES), to_vector(MODEL))
    scheme = Decoys.for_cohort(3, {"update": Bounded(length=sum(LAYERS), bound=3.0)}, candidates=3)
    trainer = LocalTrainer(0, Shard(X.numpy(), Y.numpy(), CLASSES, "tiny"), "cpu", bytes(32))
    trainer.offered(scheme)
    among: Any = trainer(task)
    for vectors in (among, *among.decoys):
        assert 0 < np.count_nonzero(vectors["update"]) <= 0.11 * sum(LAYERS)


def test_noise_beside_decoys_is_refused_for_they_are_computed_from_the_data_too() -> None:
    local = {"privacy": "local", "clip": 0.01, "noise_multiplier": 1.0}
    config = RunConfig.of(clients=3, model="mlp", local_epochs=1, batch_size=4, **local)
    task = write_instructions(config, bytes(16), 1, Description("mlp", SHAPE, CLASSES), to_vector(MODEL))
    trainer = LocalTrainer(0, Shard(X.numpy(), Y.numpy(), CLASSES, "tiny"), "cpu", bytes(32))
    trainer.offered(Decoys.for_cohort(3, {"update": Bounded(length=sum(LAYERS), bound=3.0)}, candidates=3))
    with pytest.raises(RemoteProtocolError, match="asks for noise beside decoys: each is computed from this"):
        trainer(task)


SMALL: dict[str, Any] = {
    **{"clients": 3, "rounds": 2, "model": "logistic", "partition": "iid", "execution": "sequential"},
    **{"examples_per_client": 20, "local_epochs": 1, "metrics": False},
}
SECRETS = RunSecrets.of_seed(0)


def simulated(recorder: Recorder | None = None, **changes: Any) -> tuple[SimulatedCohort, list[Trained]]:
    config = RunConfig.of(**SMALL | changes)
    layout = lay_out(config)
    cohort = SimulatedCohort(config, layout, secrets=SECRETS.clients(3), instrument=recorder)
    server = Server(cohort, config, layout.serving, secret=SECRETS.server, run=SECRETS.run)
    return cohort, list(server.rounds(None, lambda report: None))


def test_a_run_with_decoys_is_to_the_last_bit_the_run_without(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    kept = module.decoys
    monkeypatch.setattr(
        "fl.federation.simulation.decoys",
        lambda training, *rest: made.append(training.earlier is not None) or kept(training, *rest),
    )
    recorder = Recorder([0])
    with_decoys, _ = simulated(recorder, scheme="decoys", decoys=3)
    without, _ = simulated(scheme="ckks", ending="keep")
    assert with_decoys.held
    assert without.held
    assert with_decoys.held.model.parameters.tobytes() == without.held.model.parameters.tobytes()
    assert made == [False] * 3 + [True] * 3
    config, length = with_decoys._config, len(with_decoys.held.model.parameters)
    for view in recorder.clients[0]:
        upload = decode(Candidates, view.sent[3])
        assert len(upload.vectors) == 3 * (2 * length + 1)  # of 16 bits, and the weight
    assert config.protection.kept
    assert not config.tells_metrics


@pytest.mark.parametrize("metrics", [True, False])
def test_what_clients_say_of_themselves_is_not_summed_among_decoys(metrics: bool) -> None:
    assert not RunConfig.of(scheme="decoys", metrics=metrics).tells_metrics
