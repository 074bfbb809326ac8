"""What the rounds of a run tell, what is on record of it, and when it ends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.federation.noising import GRID
from fl.federation.server import Server
from fl.federation.simulation import simulated
from fl.federation.vectors import UPDATE, private_specs
from fl.privacy.accounting import epsilon
from fl.privacy.mechanisms import Level
from fl.privacy.releases import DiscreteGaussians, Gaussian, Laplace, Skellam, rdp
from fl.privacy.spending import Charge, Spending, discrete_release, real_releases, why_none
from secagg import Masking, Private
from secagg.private import Calibration

NOISY: dict[str, Any] = {"clip": 0.5, "noise_multiplier": 2.0}
ALL = (
    Gaussian(1.1, 0.25, 3),
    Laplace(1 / 3),
    Skellam(4.0, 5.0, 6.5, 2),
    DiscreteGaussians(4.0, 5.0, 7, 1.5, 3),
)


def releases(length: int = 100, **settings: Any) -> Any:
    config = RunConfig.of(**NOISY | settings)
    return real_releases(config, Level.of(config.privacy), length)


def run_of(spending: Spending | None = None, resume: Any = None, **changes: Any) -> Server:
    """Of five clients with fifty digits each and 650 parameters."""
    settings = {"clients": 5, "rounds": 3, "model": "logistic", "execution": "batched", "partition": "iid"}
    config = RunConfig.of(**settings | NOISY | changes)
    return simulated(config, lay_out(config), secrets=RunSecrets.of_seed(1), resume=resume, spending=spending)


# What a round tells


@pytest.mark.parametrize("privacy", ["local", "central"])
def test_noise_on_an_update_is_a_release_of_its_multiplier(privacy: str) -> None:
    assert releases(privacy=privacy) == (Gaussian(2.0),)
    # Of deviation z C the scale is z C / sqrt(2), and the L1 norm sqrt(d) C.
    assert releases(privacy=privacy, noise="laplace") == (Laplace(2 / math.sqrt(2) / math.sqrt(100)),)


def test_an_update_and_its_count_are_two() -> None:
    update, count = releases(privacy="central", adaptive_clip=True, clients=100)
    assert count == Gaussian(10.0)
    assert 1 / update.multiplier**2 + 1 / 10**2 == pytest.approx(1 / 4)
    assert releases(privacy="central", adaptive_clip=True, noise="laplace")[1] == Laplace(4 / math.sqrt(2))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"local_epochs": 3}, Gaussian(2.0, 1.0, 3)),  # once in each pass
        ({"local_epochs": 3, "noise": "laplace"}, Laplace(2 / math.sqrt(200), 3)),
        ({"algorithm": "fedsgd"}, Gaussian(2.0, 1.0, 1)),
        ({"local_steps": 11, "batch_size": 10, "examples_per_client": 45}, Gaussian(2.0, 1.0, 3)),
        (
            {"local_batches": "poisson", "batch_size": 10, "examples_per_client": 45, "local_epochs": 2},
            Gaussian(2.0, 10 / 45, 10),
        ),
    ],
)
def test_of_an_example_the_steps_count_that_it_can_be_in(settings: dict[str, Any], told: object) -> None:
    assert releases(privacy="example", **settings) == (told,)


def test_where_only_clients_know_how_often_an_example_is_taken_there_is_no_epsilon() -> None:
    config = RunConfig.of(privacy="example", local_batches="poisson", **NOISY)
    assert why_none(config).endswith("over a network a client with a budget counts for itself")
    assert why_none(config.with_(examples_per_client=40)) == ""


@pytest.mark.parametrize(
    "balance", [{"balance": "loss"}, {"balance": "sampling", "local_batches": "poisson"}]
)
def test_where_examples_weigh_by_their_class_there_is_no_epsilon_of_one(balance: dict[str, Any]) -> None:
    """Of a client's whole update there is."""
    example = RunConfig.of(privacy="example", examples_per_client=40, **NOISY | balance)
    assert why_none(example).startswith("balance: what an example weighs follows from how many others are in")
    assert why_none(example.with_(privacy="local")) == ""


# The record


def test_a_charge_is_read_as_it_was_written() -> None:
    charge = Charge(7, ALL)
    assert Charge.of(charge.line()) == charge


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"round":1,"releases":[{"kind":"None"}]}',
        b'{"round":1,"releases":[{"kind":"Gaussian","multiplier":-1}]}',
    ],
)
def test_a_line_that_is_no_charge_is_refused(line: bytes) -> None:
    with pytest.raises(ConfigError, match="what the run has spent is damaged on record"):
        Charge.of(line)


def test_what_is_on_record_is_gone_on_with_and_a_line_that_was_cut_off_is_not(tmp_path: Path) -> None:
    path = tmp_path / "privacy.jsonl"
    first = Spending.on_record(path, 1e-5, 0)
    for round in (1, 2, 2):
        first.charge(round, [Gaussian(2.0)])
    with path.open("ab") as file:
        file.write(Charge(3, ALL).line()[:-1])
    again = Spending.on_record(path, 1e-5, 2)
    assert [charge.round for charge in again.charges] == [1, 2, 2]
    again.charge(3, ALL)
    assert [charge.round for charge in Spending.on_record(path, 1e-5, 3).charges] == [1, 2, 2, 3]
    with pytest.raises(ConfigError, match="does not have round 4: what the run has spent is not known"):
        Spending.on_record(path, 1e-5, 4)


def test_the_chance_that_the_noise_is_none_is_taken_off_the_delta() -> None:
    spending = Spending(1e-5)
    spending.charge(1, [Gaussian(2.0)])
    whole = epsilon([Gaussian(2.0)] * 2, 1e-5 - 2e-6)
    assert spending.epsilon([Gaussian(2.0)], failure=1e-6) == whole > epsilon([Gaussian(2.0)] * 2, 1e-5)
    assert spending.epsilon(failure=1e-5) == math.inf


# Runs


def test_a_round_is_on_record_before_its_task_leaves() -> None:
    class FullError(OSError): ...

    def full(charge: Charge) -> None:
        raise FullError

    server = run_of(Spending(1e-5, keep=full), privacy="local")
    server.cohort = None  # type: ignore[assignment]  # nothing may be asked of it
    with pytest.raises(FullError):
        next(server.rounds())


def test_each_round_tells_what_all_of_them_have_spent() -> None:
    records = [trained.record for trained in run_of(privacy="central").rounds()]
    assert [record.epsilon for record in records] == [epsilon([Gaussian(2.0)] * n, 1e-5) for n in (1, 2, 3)]
    assert {(each.delta, each.against, each.honest, each.no_epsilon) for each in records} == {
        (1e-5, "who sees the model, not the server", None, None)
    }


def test_without_noise_or_with_noise_that_follows_the_data_no_epsilon_is_told() -> None:
    quiet = next(run_of(clip=None, noise_multiplier=None).rounds()).record
    assert (quiet.epsilon, quiet.delta, quiet.against, quiet.no_epsilon) == (None, None, None, None)
    for settings in ({"sensitivity": "l2-max"}, {"noise_largest": 0.1}):
        loud = next(run_of(privacy="local", **settings).rounds()).record
        assert (loud.epsilon, loud.noise, loud.no_epsilon) == (None, None, "the noise depends on the data")
    with pytest.raises(ConfigError, match="epsilon: there is none to keep to: how often an example is taken"):
        run_of(privacy="example", epsilon=3.0, noise_multiplier=None, local_batches="poisson")


@pytest.mark.parametrize(("schedule", "shape"), [("constant", (1, 1, 1)), ("linear", (1, 0.75, 0.5))])
def test_the_multiplier_is_found_for_all_rounds_and_no_round_passes_the_epsilon(
    schedule: str, shape: tuple[float, ...]
) -> None:
    """A run that was stopped within its second round has begun it twice, and has none left for the third."""
    found = {"privacy": "central", "epsilon": 3.0, "noise_multiplier": None, "noise_schedule": schedule}
    server = run_of(**found)
    first, *_, last = server.rounds()
    assert (last.record.round, server.stopped) == (3, "")
    assert last.record.epsilon is not None
    assert 2.99 < last.record.epsilon <= 3.0
    start = server.noising.multipliers[0]
    assert server.noising.multipliers == pytest.approx([start * each for each in shape])
    begun = Spending(1e-5, server.noising.spending.charges[:2])
    resumed = run_of(begun, first.checkpoint, **found)
    assert [trained.record.round for trained in resumed.rounds()] == [2]
    assert resumed.stopped.startswith("round 3 would bring epsilon to 3.")
    assert resumed.stopped.endswith(": stopped before it")


# Noise in the ring


@pytest.mark.parametrize("dropout", [None, 1])
def test_noise_in_the_ring_counts_for_those_alone_who_are_sure_to_add_theirs(dropout: int | None) -> None:
    server = run_of(privacy="distributed", clients=10, corrupt=2, dropout=dropout)
    records = [trained.record for trained in server.rounds()]
    scheme = server.scheme
    assert isinstance(scheme, Masking)
    one = scheme.calibration(UPDATE)
    assert one.honest == scheme.m_min - 2 < 8
    told = Skellam(one.l2_squared, one.l1, one.variance * one.honest)
    assert [charge.releases for charge in server.noising.spending.charges] == [(told,)] * 3
    assert [record.epsilon for record in records] == [epsilon([told] * n, 1e-5) for n in (1, 2, 3)]
    assert {(record.honest, record.against) for record in records} == {
        (one.honest, "the server and the corrupt clients")
    }
    # More than are sure to be there came: more noise, which is told, and not counted.
    assert records[0].noise == pytest.approx(2.0 * 0.5 / 10 * math.sqrt(10 / one.honest))
    assert epsilon([Gaussian(2.0)], 1e-5) < (records[0].epsilon or 0)


def test_shares_of_discrete_gaussians_are_counted_as_such() -> None:
    server = run_of(privacy="distributed", noise="discrete-gaussian")
    next(server.rounds())
    scheme = server.scheme
    assert isinstance(scheme, Masking)
    one = scheme.calibration(UPDATE)
    ((told,),) = [charge.releases for charge in server.noising.spending.charges]
    assert told == DiscreteGaussians(one.l2_squared, one.l1, 650, one.variance, one.honest)


def test_what_a_round_costs_does_not_follow_from_the_clip_that_adapts() -> None:
    server = run_of(privacy="distributed", adaptive_clip=True, clip=1e-4, noise_multiplier=0.5)
    clips = [trained.record.clip for trained in server.rounds()]
    assert len(set(clips)) == 3
    first, *others = [charge.releases for charge in server.noising.spending.charges]
    assert others == [first, first]
    for clip in clips:
        specs = private_specs(server.config, 650, Level(clip, 0.5)).values()
        for told, spec in zip(first, specs, strict=True):
            one = Calibration(spec, 5, server.noising.honest or 0)
            true = Skellam(one.l2_squared, one.l1, one.variance * one.honest)
            assert 1 <= rdp(told, 2.0) / rdp(true, 2.0) < 1.001


@pytest.mark.parametrize(
    ("adversary", "share", "may_choose"),
    [
        ("active", None, True),  # 300 that may be lost and 100 that lie take apart no ring of 470 neighbours
        ("active", 0.05, False),  # 50 and 50 one of 78
        ("semi-honest", 0.05, True),  # who follows the protocol chooses nobody
    ],
)
def test_whom_a_sparse_graph_holds_against(adversary: str, share: float | None, may_choose: bool) -> None:
    more: dict[str, Any] = {"clients": 1000, "examples_per_client": 1, "corrupt": share, "dropout": share}
    server = run_of(privacy="distributed", adversary=adversary, **more)
    assert isinstance(server.scheme, Masking)
    assert not server.scheme.complete
    assert server.noising._against == "the server and the corrupt clients" + (
        "" if may_choose else ", unless it is them who choose who is lost"
    )


def test_a_clip_that_makes_the_next_whole_number_of_the_norms_bound_costs_no_more() -> None:
    """A short vector on a coarse grid: of the first clip the bound is 45 steps^2, of the other 46."""
    (first, other) = (
        Calibration(Private(length=30, clip=clip, bits=8, multiplier=2.2813), 20, 12) for clip in (0.5, 0.7)
    )
    assert (first.l2_squared, other.l2_squared) == (45, 46)
    assert rdp(discrete_release(first, GRID), 2.0) > rdp(discrete_release(other), 2.0)


def test_a_sparse_graph_takes_its_chance_off_the_delta() -> None:
    more = {"clients": 200, "examples_per_client": 5, "graph": "sparse", "adversary": "semi-honest"}
    dense, sparse = (
        run_of(privacy="distributed", **more | each).noising for each in ({"graph": "complete"}, {})
    )
    assert (dense._failure, sparse._failure) == (0.0, 2.0**-40)
    assert run_of(privacy="distributed", **more | {"adversary": "active"}).noising._failure == 2.0**-48
