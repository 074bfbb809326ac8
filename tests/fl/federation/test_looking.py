"""The preflight where clients train: an update that gives too much away does not leave, and what noise bounds
is not told by a refusal.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from fl.cohort.layout import Layout, lay_out
from fl.config.preflight import Preflight
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.simulation import simulated
from fl.federation.task import Instructions, read_instructions, write_instructions
from fl.federation.vectors import UPDATE
from fl.models.architectures import build
from fl.models.weights import to_vector
from fl.preflight import Own, Verdict, Withheld
from secagg import Bounded, Masking, Private
from secagg.wire import encode
from transport import Refused

NOTHING = Preflight(shares=((1, 0.0),))  # not one example
UPDATE_ALONE = {UPDATE: Bounded(length=4810, bound=3.0)}  # of the model below, on digits
SMALL: dict[str, Any] = {
    "clients": 4,
    "rounds": 1,
    "local_steps": 1,
    "model": "mlp",
    "examples_per_client": 2,
    "execution": "sequential",
}


def trainer_of(layout: Layout, **how: Any) -> LocalTrainer:
    shard = Shard(*layout.examples(0), layout.serving.dataset.classes, "digits")
    return LocalTrainer(0, shard, "cpu", bytes(32), **how)


def task_of(config: RunConfig, privacy: Perturbation | None = None) -> bytes:
    dataset = lay_out(config).serving.dataset
    model = to_vector(build(config.training.model, dataset.shape, dataset.classes, 0))
    server = simulated(config, lay_out(config))
    instructions: Instructions = read_instructions(
        write_instructions(config, bytes(16), 1, server.description, model)
    )[0]
    return encode(msgspec.structs.replace(instructions, privacy=privacy))


def test_an_update_that_gives_too_much_away_does_not_leave_its_client() -> None:
    config, seen = RunConfig.of(**SMALL), list[Verdict]()
    trainer = trainer_of(lay_out(config), preflight=NOTHING, looked=seen.append)
    with pytest.raises(Withheld, match=r"nothing was sent: [12] of the 2 examples .* more local steps"):
        trainer(task_of(config))
    assert seen[0].leaks


@pytest.mark.parametrize("rules", [Preflight(), Preflight(action="warn", shares=((1, 0.0),))])
def test_one_that_may_or_of_a_client_that_is_only_told_leaves_as_it_is(rules: Preflight) -> None:
    config, seen = RunConfig.of(**SMALL), list[Verdict]()
    layout, task = lay_out(config), task_of(config)
    sent = trainer_of(layout, preflight=rules, looked=seen.append)(task)
    np.testing.assert_array_equal(sent[UPDATE], trainer_of(layout)(task)[UPDATE])
    assert [verdict.out > 0 for verdict in seen] == [True]


def test_where_a_client_adds_noise_zeros_leave_and_nothing_is_refused() -> None:
    """Of so little noise that all is read; and so much that nothing is, and the update leaves."""
    config = RunConfig.of(**SMALL)
    for multiplier, longest in ((1e-9, 1e-6), (10.0, np.inf)):
        seen = list[Verdict]()
        trainer = trainer_of(lay_out(config), preflight=NOTHING, looked=seen.append)
        trainer.offered(Masking.for_cohort(4, UPDATE_ALONE, adversary="semi-honest"))
        sent = trainer(task_of(config, Perturbation("local", clip=1.0, multiplier=multiplier)))
        assert np.linalg.norm(sent[UPDATE]) < longest
        assert seen[0].leaks == (longest < np.inf)


@pytest.mark.parametrize(("multiplier", "leaks"), [(1e-6, True), (10.0, False)])
def test_noise_in_the_ring_is_reckoned_in_before_it_is_there(multiplier: float, leaks: bool) -> None:
    config, seen = RunConfig.of(**SMALL), list[Verdict]()
    trainer = trainer_of(lay_out(config), preflight=NOTHING, looked=seen.append)
    private = Private(length=4810, clip=1.0, multiplier=multiplier)
    trainer.offered(Masking.for_cohort(4, {UPDATE: private}, adversary="semi-honest"))
    sent = trainer(task_of(config))
    assert seen[0].leaks == leaks
    assert (not sent[UPDATE].any()) == leaks


def test_noise_in_the_steps_is_looked_at_and_never_refused() -> None:
    config, seen = RunConfig.of(**SMALL), list[Verdict]()
    trainer = trainer_of(lay_out(config), preflight=NOTHING, looked=seen.append)
    trainer.offered(Masking.for_cohort(4, UPDATE_ALONE, adversary="semi-honest"))
    sent = trainer(task_of(config, Perturbation("example", clip=1.0, multiplier=1e-6)))
    assert seen[0].leaks
    assert sent[UPDATE].any()


def test_in_one_process_clients_look_and_those_that_send_nothing_are_missing() -> None:
    """Where all of them do there is no sum."""
    config = RunConfig.of(**SMALL)
    told = next(simulated(config, lay_out(config), preflight=Preflight()).rounds())
    assert told.record.alive == 4
    assert all(verdict.out for verdict in told.local.looked.values())
    server = simulated(config, lay_out(config), preflight=NOTHING)
    with pytest.raises(Refused, match=r"clients 0, 1, 2, 3 sent nothing: [12] of the 2 examples") as told:
        next(server.rounds())
    assert told.value.refused.keys() == {0, 1, 2, 3}


def test_what_follows_from_a_clients_examples_alone_is_worked_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worked_out, of = list[int](), Own.of

    def counted(inputs: Any, near: float) -> Own:
        worked_out.append(len(inputs))
        return of(inputs, near)

    monkeypatch.setattr(Own, "of", counted)
    config = RunConfig.of(**SMALL).with_(rounds=3)
    trainer, task = trainer_of(lay_out(config), preflight=Preflight()), task_of(config)
    for _ in range(3):
        trainer(task)
    assert len(worked_out) == 1
    assert len(list(simulated(config, lay_out(config), preflight=Preflight()).rounds())) == 3
    assert len(worked_out) == 1 + config.cohort.clients
