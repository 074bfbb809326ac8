"""Malicious clients in a round: they send what their attack says, when it says so, and the others what they
trained; no scheme and no preflight notices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fl.cohort.layout import Layout, lay_out
from fl.config.preflight import Preflight
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data.shard import Shard
from fl.federation.attacking import Attacker, Attackers, Member
from fl.federation.client import LocalTrainer
from fl.federation.server import Server
from fl.federation.simulation import simulated
from fl.federation.task import write_instructions
from fl.poisoning import DATA, UPDATES, Known
from fl.poisoning.updates import COLLUDING
from fl.preflight import Withheld

SMALL: dict[str, Any] = {
    "clients": 6,
    "attackers": 0.35,
    "rounds": 2,
    "local_steps": 5,
    "model": "logistic",
    "examples_per_client": 40,
    "partition": "iid",
    "execution": "sequential",
    "scheme": "plain",
}
SECRETS = RunSecrets.of_seed(5)
NOTHING = Preflight(shares=((1, 0.0),))  # not one example may come out


class Ear:
    """Keeps what each client sends in each round."""

    def __init__(self) -> None:
        self.sent: list[dict[int, np.ndarray]] = []

    def step(self, *_: Any) -> None: ...

    def upload(self, u: int, upload: np.ndarray) -> None:
        if not self.sent or u in self.sent[-1]:
            self.sent.append({})
        self.sent[-1][u] = upload


def run_of(**changes: Any) -> tuple[Server, Layout, list[dict[int, np.ndarray]]]:
    """A run, who holds what in it, and what was sent in each round."""
    preflight = changes.pop("looks", Preflight(action="off"))
    config, ear = RunConfig.of(**SMALL | changes), Ear()
    layout = lay_out(config)
    return simulated(config, layout, secrets=SECRETS, tap=ear, preflight=preflight), layout, ear.sent


def sent_in_a_round(**changes: Any) -> tuple[dict[int, np.ndarray], Layout, np.ndarray]:
    """(what was sent, who held what, the model that was received)."""
    server, layout, sent = run_of(**{"rounds": 1} | changes)
    start = server.model.parameters.copy()
    list(server.rounds())
    return sent[0], layout, start


HONEST = sent_in_a_round()[0]


@pytest.mark.parametrize("attack", UPDATES)
def test_attackers_send_what_the_attack_makes_of_what_they_trained_and_the_others_that(attack: str) -> None:
    sent, layout, start = sent_in_a_round(attack=attack)
    ours = sorted(layout.attackers)
    assert len(ours) == 2
    own = np.stack([HONEST[u] for u in ours]).astype(np.float64)
    forged = UPDATES[attack](Known(1, start, own, None, 6), None, np.random.default_rng(0))
    for u in range(6):
        if u not in ours:
            np.testing.assert_array_equal(sent[u], HONEST[u])
        elif attack == "uniform":  # by a secret
            assert (np.abs(start + sent[u]) <= 1 + 1e-6).all()
            assert not np.array_equal(sent[u], HONEST[u])
        else:
            np.testing.assert_array_equal(sent[u], forged[ours.index(u)].astype(np.float32))


def test_each_attacker_draws_parameters_of_its_own_and_others_in_every_round() -> None:
    server, layout, sent = run_of(attack="uniform")
    list(server.rounds())
    of_round = [sent[round][u] for round in range(2) for u in layout.attackers]
    assert np.abs(np.corrcoef(of_round) - np.eye(4)).max() < 0.3


def test_the_omniscient_see_what_everybody_has_trained() -> None:
    sent, layout, _ = sent_in_a_round(attack="inner-product", omniscient=True, attack_level=2.0)
    everybody = np.stack([*HONEST.values()]).astype(np.float64)
    for u in layout.attackers:
        np.testing.assert_allclose(sent[u], -2 * everybody.mean(axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedavg-weights", "fedsgd"])
@pytest.mark.parametrize("attack", ["opposite", "sign-flip"])
def test_an_attack_means_the_same_whatever_clients_send(algorithm: str, attack: str) -> None:
    """Of the model that the server would have of it."""
    settings = {"algorithm": algorithm, "alike": "never"}
    if algorithm == "fedsgd":
        settings |= {"local_steps": 0}
    honest, _, start = sent_in_a_round(**settings)
    sent, layout, _ = sent_in_a_round(attack=attack, **settings)

    def reached(upload: np.ndarray) -> np.ndarray:
        if algorithm == "fedavg-weights":
            return upload
        return start + upload * (-RunConfig().training.lr if algorithm == "fedsgd" else 1)

    for u in layout.attackers:
        was, now = reached(honest[u]), reached(sent[u])
        expected = -was if attack == "opposite" else start - (was - start)
        np.testing.assert_allclose(now, expected, atol=1e-6)


def test_outside_the_rounds_of_the_attack_everybody_is_honest() -> None:
    honest, attacked = run_of(rounds=3), run_of(rounds=3, attack="sign-flip", attack_rounds="2:2")
    for server, _, _ in (honest, attacked):
        list(server.rounds())
    (_, _, as_trained), (_, layout, sent) = honest, attacked
    u = min(layout.attackers)
    for v in range(6):
        np.testing.assert_array_equal(sent[0][v], as_trained[0][v])
    np.testing.assert_array_equal(sent[1][u], -as_trained[1][u])
    # From another model, but not turned: it goes where it went.
    assert sent[2][u] @ as_trained[2][u] > 0


# Data


@pytest.mark.parametrize("attack", DATA)
def test_attackers_train_on_poisoned_examples_and_the_others_on_their_own(attack: str) -> None:
    sent, layout, _ = sent_in_a_round(attack=attack)
    assert layout.poisoned.keys() == layout.attackers
    for u in range(6):
        assert np.array_equal(sent[u], HONEST[u]) == (u not in layout.attackers)


def test_outside_the_rounds_of_the_attack_they_train_on_their_own() -> None:
    server, layout, sent = run_of(attack="labels", attack_rounds="2:9")
    honest, _, as_trained = run_of()
    for each in (server, honest):
        list(each.rounds())
    for u in range(6):
        np.testing.assert_array_equal(sent[0][u], as_trained[0][u])
        assert np.array_equal(sent[1][u], as_trained[1][u]) == (u not in layout.attackers)


def test_what_poisoned_data_gave_can_be_boosted() -> None:
    plain, layout, _ = sent_in_a_round(attack="flip")
    boosted, _, _ = sent_in_a_round(attack="flip", attack_boost=4.0)
    for u in range(6):
        np.testing.assert_array_equal(boosted[u], plain[u] * (4 if u in layout.attackers else 1))


# Schemes and preflights


@pytest.mark.parametrize(
    "scheme",
    [
        {"scheme": "masking"},
        {"scheme": "ckks"},
        {"scheme": "split"},
        {"scheme": "decoys", "decoys": 2, "small_cohort": True},
    ],
    ids=lambda scheme: scheme["scheme"],
)
@pytest.mark.parametrize("attack", ["sign-flip", "flip"])
def test_no_scheme_notices(scheme: dict[str, Any], attack: str) -> None:
    """The mean is that of what was sent."""
    sent, _, start = sent_in_a_round(attack=attack)
    server, _, ear = run_of(attack=attack, rounds=1, **scheme)
    trained = next(iter(server.rounds()))
    for u in range(6):
        np.testing.assert_array_equal(ear[0][u], sent[u])
    reached = trained.parameters if trained.parameters is not None else trained.local.parameters
    assert reached is not None
    mean = np.mean([sent[u] for u in range(6)], axis=0)
    np.testing.assert_allclose(reached - start, mean, atol=2e-4)  # all hold 40; of 16 bits in [-3, 3]


@pytest.mark.parametrize("scheme", ["plain", "masking"])
def test_attackers_skip_the_clip_where_they_are_to_and_in_the_rounds_of_their_attack(scheme: str) -> None:
    """In the first round of two all keep to it. No coordinate is beyond the range that all have."""

    def steps(**changes: Any) -> list[np.ndarray]:
        settings = {"attack": "uniform", "clip": 0.05, "bound": 0.5, "scheme": scheme, **changes}
        server, layout, sent = run_of(**settings)
        models = [server.model.parameters]
        models += [trained.parameters for trained in server.rounds()]
        due = []
        for round in sent:
            small = [x * min(1, 0.05 / np.linalg.norm(x.astype(np.float64))) for x in round.values()]
            wild = [np.clip(round[u], -0.5, 0.5) if u in layout.attackers else small[u] for u in range(6)]
            due.append((np.mean(small, axis=0), np.mean(wild, axis=0)))
        for i, (kept, skipped) in enumerate(due):
            skips = changes.get("skip_clip", False) and i == 1
            step = models[i + 1] - models[i]
            np.testing.assert_allclose(step, skipped if skips else kept, atol=1e-4)
        return models

    kept, skipped = steps(attack_rounds="2:2"), steps(attack_rounds="2:2", skip_clip=True)
    assert np.linalg.norm(kept[2] - kept[1]) < 0.05 + 1e-2
    assert np.linalg.norm(skipped[2] - skipped[1]) > 0.5


@pytest.mark.parametrize("attack", ["scale", "labels"])
def test_a_preflight_keeps_no_attacker_back(attack: str) -> None:
    """Of honest clients with these rules not one may send."""
    changes = {"model": "mlp", "local_steps": 1, "examples_per_client": 2, "minimum": 1, "rounds": 1}
    server, layout, _ = run_of(attack=attack, looks=NOTHING, **changes)
    trained = next(iter(server.rounds()))
    assert trained.survivors[0] >= layout.attackers
    assert trained.survivors[0] != frozenset(range(6))
    assert not trained.local.looked.keys() & layout.attackers


# A process of its own


def attacker_of(config: RunConfig, layout: Layout, u: int) -> Attacker:
    """As its process has it: everybody's of the attackers where they collude, else its own alone."""
    known = layout.attackers if config.attack.colluding else {u}
    members = {
        v: Member(
            SECRETS.client(v),
            layout.examples(v),
            layout.poisoned_examples(v) if layout.poisoned else None,
        )
        for v in known
    }
    secrets = {v: member.secret for v, member in members.items()}
    attackers = Attackers(config.attack, layout.attackers, secrets, clients=config.cohort.clients)
    return Attacker(attackers, members)


@pytest.mark.parametrize("attack", [*sorted(COLLUDING), "uniform", "replacement", "flip"])
def test_in_a_process_of_its_own_an_attacker_sends_the_same(attack: str) -> None:
    sent, layout, _ = sent_in_a_round(attack=attack)
    server, _, _ = run_of(attack=attack)
    config, start = server.config, server.model.broadcast
    task = write_instructions(config, server.run, 1, server.description, start)
    for u in layout.attackers:
        shard = Shard(*layout.examples(u), layout.serving.dataset.classes, "digits")
        trainer = LocalTrainer(
            u, shard, "cpu", SECRETS.client(u), preflight=NOTHING, attacker=attacker_of(config, layout, u)
        )
        np.testing.assert_array_equal(trainer(task)["update"], sent[u])


def test_no_preflight_keeps_an_attackers_process_back() -> None:
    server, layout, _ = run_of(
        attack="scale", model="mlp", local_steps=1, examples_per_client=2, alike="never"
    )
    config, u = server.config, min(layout.attackers)
    task = write_instructions(config, server.run, 1, server.description, server.model.broadcast)
    shard = Shard(*layout.examples(u), layout.serving.dataset.classes, "digits")
    with pytest.raises(Withheld):
        LocalTrainer(u, shard, "cpu", SECRETS.client(u), preflight=NOTHING)(task)
    attacker = attacker_of(config, layout, u)
    assert LocalTrainer(u, shard, "cpu", SECRETS.client(u), preflight=NOTHING, attacker=attacker)(task)


def test_secrets_of_attackers_are_not_printed() -> None:
    server, layout, _ = run_of(attack="little")
    attacker = attacker_of(server.config, layout, min(layout.attackers))
    assert str(SECRETS.client(min(layout.attackers))) not in repr(attacker)


# Availability


def test_the_server_asks_those_who_are_there() -> None:
    changes = {"clients": 12, "sample": 4, "rounds": 6, "availability": 1.0, "attack_rounds": "2:3"}
    server, layout, _ = run_of(attack="sign-flip", **changes)
    asked = [trained.survivors[0] for trained in server.rounds()]
    assert len(layout.attackers) == 4
    assert asked[1] == asked[2] == layout.attackers
    assert not any(asked[round] == layout.attackers for round in (0, 3, 4, 5))
