"""What a protection costs is counted to whom it costs, and changes nothing of what is trained."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

from benchmarks import harness, joined, protected
from benchmarks.__main__ import main
from benchmarks.harness import GPU, NoControlError, Row
from benchmarks.matrix import cost
from benchmarks.played import watched
from benchmarks.poisoned import laid_out, model_of
from benchmarks.protected import configuration
from benchmarks.protections import CLIENTS, PLAIN, PROTECTIONS, QUICK, by_name
from fl.cli import FAILED
from fl.privacy.spending import AGAINST
from secagg.errors import ClientId
from secagg.wire import relay_party
from tests.benchmarks.cases import few_examples, rows_of, shown

LOCAL = by_name("plain, local noise, epsilon 8")
CENTRAL = by_name("masking, central noise, epsilon 8")
KEPT = by_name("ckks, keep")


def few(rounds: int) -> protected.Size:
    return protected.Size((), rounds, 1)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which whatever is timed takes a second, and what is timed around it two more."""
    ticks = count()
    monkeypatch.setattr("benchmarks.played.time.process_time", lambda: next(ticks))


@pytest.mark.usefixtures("ticking")
def test_each_part_of_a_round_is_counted_to_whom_it_costs() -> None:
    """Of twenty clients: to train, to send, and twice to speak; the server hears each twice and ends two
    rounds, asks, combines, adds no noise and takes its step. So it is in every round.
    """
    row = cost.run_case(PLAIN, few(2), 0)
    assert row["training_ms"] == pytest.approx(1000 * 2 / CLIENTS)  # training and sending, of all together
    assert row["session_ms"] == pytest.approx(1000 * 2)
    assert row["server_ms"] == pytest.approx(1000 * (2 * CLIENTS + 2 + 4))
    assert row["rounds"] == 2


@pytest.mark.usefixtures("ticking")
def test_where_clients_keep_the_model_each_takes_the_step_and_the_server_only_asks() -> None:
    row = cost.run_case(by_name("decoys, keep"), few(1), 0)
    assert row["training_ms"] == pytest.approx(1000 * (3 / CLIENTS + 1))  # its decoys, too; and the step
    assert row["server_ms"] == pytest.approx(1000 * (row["rounds"] * (CLIENTS + 1) + 1))
    assert 0 < row["accuracy"] <= 1


def test_what_relays_take_is_no_client_s() -> None:
    work = dict.fromkeys(cost.WORK, 0.0)
    clients: dict[ClientId | None, float] = {None: 4.0, 0: 1.0, 1: 2.0}
    relays: dict[ClientId | None, float] = {relay_party(0): 10.0, relay_party(1): 20.0}
    spent = cost.Spent.of(work, clients | relays, kept=False)
    assert spent == cost.Spent(training=0, session=1.5, server=4.0, relay=15.0)
    assert cost.Spent.of(work, clients, kept=False).relay is None


@pytest.mark.slow
@pytest.mark.parametrize("protection", [PLAIN, by_name("masking"), KEPT], ids=lambda each: each.name)
def test_counting_changes_no_bit_of_what_is_learned(protection: protected.Protection) -> None:
    config = configuration(protection, few(2), 5, execution="sequential")
    _, bare = laid_out(config)
    *_, without = bare.rounds()
    with watched(cost.WORK) as seconds:
        _, counted = laid_out(config, instrument=cost.Meter())
        *_, with_it = counted.rounds()
    models = (model_of(each) for each in (without, with_it))
    assert np.array_equal(*models)
    assert len(seconds[cost.TRAINING]) == 2


def test_a_row_says_what_was_learned_sent_and_promised_and_why_what_does_not_apply_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cost.SIZES, "quick", protected.Size((PLAIN, LOCAL, CENTRAL, by_name("split")), 2, 1))
    rows = rows_of(cost, seed=3)
    assert {row["seed"] for row in rows} == {3}
    plain, local, central, split = rows
    assert 0.5 < plain["accuracy"] <= 1
    assert (plain["epsilon"], plain["epsilon_why"]) == (None, "no noise is added")
    assert (plain["relay_ms"], plain["relay_ms_why"]) == (None, "there are no relays")
    assert split["relay_ms"] > 0
    assert split["relay_bytes"] > split["bytes_up"]  # of twenty clients
    assert 7.9 < local["epsilon"] == local["server_epsilon"] <= 8
    assert (local["against"], local["delta"]) == (AGAINST["local"], 1e-5)
    assert (local["honest"], local["honest_why"]) == (None, "no other has to be honest")
    assert 7.9 < central["epsilon"] <= 8
    assert central["server_epsilon"] is None
    assert central["server_epsilon_why"].startswith("unnoised")
    for row in rows:
        empty = {name for name, value in row.items() if value is None}
        assert {f"{name}_why" for name in empty} == {name for name in row if name.endswith("_why")}
    shown(cost, rows)
    for point, each in zip(joined.points({"cost": rows}), sorted_as_listed(rows), strict=True):
        assert point.values["accuracy"] == pytest.approx(100 * each["accuracy"])
        assert (point.values["epsilon"] is None) == (each["epsilon"] is None)


def sorted_as_listed(rows: list[Row]) -> list[Row]:
    return [row for each in PROTECTIONS for row in rows if row["protection"] == each.name]


def row(protection: str, seed: int, **numbers: float) -> Row:
    of = dict.fromkeys(("accuracy", "training_ms", "session_ms", "server_ms", "bytes_up", "bytes_down"), 1.0)
    none = dict.fromkeys(("relay_ms", "epsilon", "against", "honest"))
    return {"protection": protection, "seed": seed, "rounds": 2, **of, **none, **numbers}


def test_a_table_holds_each_against_plain_of_the_same_seed() -> None:
    """Over pairs of seeds: 3 and 5 times as long, where the medians would say 21 of 5.5."""
    rows = [
        row("plain", 0, training_ms=1, session_ms=0, accuracy=0.9),
        row("masking", 0, training_ms=2, session_ms=1, accuracy=0.8, bytes_up=2),
        row("plain", 1, training_ms=9, session_ms=1, accuracy=0.7),
        row("masking", 1, training_ms=9, session_ms=41, accuracy=0.5, bytes_up=4),
    ]
    _, masking = cost.table(rows).rows
    cells = dict(zip(cost.table(rows).header, masking, strict=True))
    assert cells["off"].startswith("-15.0")
    assert masking[5] == "4.00"
    assert masking[9] == "3.00"
    with pytest.raises(NoControlError, match="seed 2"):
        cost.CONTROL.check([*rows, row("masking", 2)])


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pixels of noise for MNIST, and a small GPU size that is computed here."""
    small = protected.Size((PLAIN, by_name("masking, groups of 5, median")), 1, 1, "mnist", "mlp-200", "cpu")
    monkeypatch.setitem(protected.SIZES, GPU, small)
    yield from few_examples(monkeypatch)


@pytest.mark.usefixtures("mnist")
def test_the_size_of_a_gpu_is_the_same_table_of_mnist_and_says_so() -> None:
    """Without its GPU: what needs one is the device alone."""
    rows = rows_of(cost, size=GPU)
    assert {(row["dataset"], row["device"]) for row in rows} == {("mnist", "cpu")}
    shown(cost, rows)
    plain, masked = joined.points({"cost": rows}, GPU)
    assert "--model mlp-200 " in plain.command
    assert masked.values["bytes_up"] is not None


def test_without_a_gpu_there_is_no_size_of_it_nor_of_what_has_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for table in ("cost", "resilience"):
        case = harness.load("matrix", table).cases(GPU, 0)[0]
        with pytest.raises(NotImplementedError, match="--size gpu needs a GPU that torch can use"):
            case.rows(lambda name, what: None)
    assert main(["matrix", "leakage", "--size", GPU]) == FAILED
    said = "error: leakage cannot be measured: it has no size gpu: there are quick, full\n"
    assert capsys.readouterr().err == said


def test_on_a_gpu_a_training_has_ended_when_the_gpu_is_through_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = list[str]()
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    clock = cost.clock_of("cuda")
    assert clock is not None
    assert clock() <= clock()
    assert waited == ["cuda", "cuda"]
    assert cost.clock_of("cpu") is None  # the processor's


def test_a_full_table_is_of_every_protection_and_a_quick_one_of_six() -> None:
    """Seed by seed, so that every row has its control."""
    assert protected.SIZES["full"].protections == PROTECTIONS
    firsts = [case.name for case in cost.cases("full", 7)][:: len(PROTECTIONS)]
    assert firsts == ["plain, seed 7", "plain, seed 8", "plain, seed 9"]
    assert len(protected.SIZES["quick"].protections) == len(QUICK) == 6
    assert QUICK[0] == PLAIN


def test_the_committed_rows_show_what_is_claimed() -> None:
    by = protected.by_protection(harness.read("matrix", "cost")["rows"])
    plain = by[PLAIN.name]

    def accuracy(name: str) -> int:
        return round(100 * statistics.fmean(row["accuracy"] for row in by[name]))

    unnoised = [row.name for row in PROTECTIONS if "epsilon" not in row.name and row.name in by]
    assert {accuracy(name) for name in unnoised} == {95}
    left = [accuracy(f"masking, distributed noise, epsilon {e}") for e in (50, 8, 1)]
    assert left == [91, 60, 10]
    others = ("masking, central noise", "plain, noise in the steps", "plain, local noise")
    assert [accuracy(f"{name}, epsilon 8") for name in others] == [77, 57, 17]
    assert {row["server_epsilon"] for row in by["masking, central noise, epsilon 8"]} == {None}

    def costs(name: str) -> tuple[str, str]:
        up = cost.over(by[name], plain, lambda row: row["bytes_up"])
        return cost.over(by[name], plain, cost.client_ms), up

    assert costs("masking") == ("3.10", "0.88")
    assert costs("masking, distributed noise, epsilon 8") == ("3.14", "0.73")
    assert costs("masking, groups of 5, median") == ("2.90", "0.82")
    assert costs("masking, groups of 2, median, unsafe") == ("2.90", "0.76")
    assert costs("split") == ("1.24", "0.67")
    assert (costs("ckks, release"), costs("ckks, keep")) == (("11.32", "6.56"), ("10.91", "3.56"))
    assert costs("decoys, keep") == ("30.91", "17.04")
    assert costs("plain, noise in the steps, epsilon 8")[0] == "12.55"
    servers = [cost.middle(by[name], "server_ms", ".0f") for name in ("masking", "split", "decoys, keep")]
    assert servers == ["11", "5", "166"]
