"""Every protection as one point: the three tables' numbers, each where it belongs, and why there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, joined, published, report
from benchmarks.adversaries import CLIENT, SERVER
from benchmarks.harness import Row
from benchmarks.inverted import cells_of
from benchmarks.joined import HEADS, UNMEASURED, command, points
from benchmarks.matrix.leakage import nothing
from benchmarks.matrix.resilience import ATTACKS, MEAN, NOTHING
from benchmarks.protected import SIZES
from benchmarks.protections import PROTECTIONS
from fl.page.published import AXES
from tests.docs.typed import can_be_typed


def cost(protection: str, seed: int, **numbers: Any) -> Row:
    of = {"accuracy": 0.9, "training_ms": 5.0, "session_ms": 1.0, "server_ms": 2.0, "bytes_up": 10.0}
    none = {"epsilon": None, "epsilon_why": "no noise is added", "against": None}
    return {"protection": protection, "seed": seed, "rounds": 2, **of, **none, **numbers}


def leak(protection: str, adversary: str, seed: int, share: float, **at: int) -> Row:
    where = {"clients": 10, "round": 1, **at}
    return {"protection": protection, "adversary": adversary, "seed": seed, "share": share, **where}


def attacked(protection: str, accuracies: dict[str, float], rule: str = MEAN) -> list[Row]:
    """Of two seeds: with the other a tenth less of everything but without attackers."""
    choice = None if rule == MEAN else {}
    return [
        {
            "protection": protection,
            "rule": rule,
            "attack": attack,
            "seed": seed,
            "accuracy": accuracies[attack] - (0.1 if seed and attack != NOTHING else 0.0),
            "success": 0.8 if attack == "backdoor" else 0.1,
            "until": None,
            "choice": choice,
        }
        for attack in (NOTHING, *ATTACKS)
        for seed in (0, 1)
    ]


UNDER = {NOTHING: 0.9, "opposite": 0.4, "uniform": 0.5, "min-max": 0.6, "backdoor": 0.9}
RULED = {NOTHING: 0.85, "opposite": 0.8, "uniform": 0.8, "min-max": 0.7, "backdoor": 0.85}
TABLES = {
    "cost": [
        cost("plain", 0),
        cost("plain", 1, training_ms=9.0),
        cost("masking", 0, session_ms=8.0, bytes_up=20.0, rounds=6),
        cost("masking", 1, session_ms=11.0, training_ms=9.0, bytes_up=40.0, rounds=6),
        cost("ckks, keep", 0, epsilon=8.0, against="everybody"),
    ],
    "leakage": [
        leak("plain", SERVER, 0, 1.0),
        leak("plain", SERVER, 1, 0.9),
        leak("plain", CLIENT, 0, 0.3),
        leak("plain", SERVER, 0, 0.0, clients=50),
        leak("plain", SERVER, 0, 0.0, round=20),
        {**leak("ckks, keep", SERVER, 0, 0.0), **nothing("the server reads ciphertexts")},
    ],
    "resilience": [
        *attacked("plain", RULED, "median"),
        *attacked("plain", UNDER),
        *attacked("masking", UNDER),
    ],
}


def test_a_point_has_of_each_table_what_is_its_own() -> None:
    plain, masking, kept = points(TABLES)
    assert [plain.name, masking.name, kept.name] == ["plain", "masking", "ckks, keep"]
    assert plain.values["client_ms"] == 0
    assert masking.values["client_ms"] == pytest.approx(8.5)  # 7 and 10, by pairs of seeds
    assert masking.spread["client_ms"] == pytest.approx(4.5**0.5)
    assert masking.values["bytes_up"] == pytest.approx(3)
    assert masking.values["rounds"] == 6
    assert plain.values["leakage"] == pytest.approx(95)
    assert plain.values["leakage_clients"] == pytest.approx(30)
    assert masking.values["accuracy"] == pytest.approx(90)


def test_under_attack_the_best_rule_counts_and_is_held_against_the_mean_without_attackers() -> None:
    plain, masking, _ = points(TABLES)
    assert masking.values["resilience"] == pytest.approx(-55)
    assert plain.values["resilience"] == pytest.approx(-25)  # .7 and .6, of .9 under the mean
    assert (plain.why["resilience"], masking.why["resilience"]) == (
        "under min-max, with median",
        "under opposite, with mean",
    )
    assert plain.values["success"] == pytest.approx(80)
    assert plain.why["success"].startswith("10 % without attackers")


def test_what_does_not_apply_is_none_and_says_why() -> None:
    plain, masking, kept = points(TABLES)
    assert (kept.values["leakage"], kept.why["leakage"]) == (None, "the server reads ciphertexts")
    assert (masking.values["leakage"], masking.why["leakage"]) == (None, UNMEASURED)
    assert (kept.values["resilience"], kept.why["resilience"]) == (None, UNMEASURED)
    assert (plain.values["epsilon"], plain.why["epsilon"]) == (None, "no noise is added")
    assert (kept.values["epsilon"], kept.why["epsilon"]) == (8, "against everybody")
    for each in points(TABLES):
        assert list(each.values) == list(HEADS) == [axis.name for axis in AXES]
        assert all(each.why[axis] for axis, number in each.values.items() if number is None)


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda each: each.name)
def test_the_command_of_a_point_can_be_typed(protection: Any) -> None:
    for how in SIZES.values():
        can_be_typed(command(protection, how))


def test_the_page_begins_with_all_together_once_costs_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "measured", lambda: TABLES)
    page = report.text("matrix")
    assert page.index("## All together") < page.index("## cost")
    line = next(line for line in page.splitlines() if line.startswith("| masking"))  # wide, and so in parts
    assert [cell.strip() for cell in line.strip("|").split("|")][1:3] == ["+8.5", "3.00"]
    assert "- leaks to server, %: the server reads ciphertexts (ckks, keep)." in page
    assert max(len(line) for line in page.splitlines() if line.startswith("|")) <= 80
    monkeypatch.setattr(joined, "measured", dict)
    assert "## All together" not in report.text("matrix")
    assert "## All together" not in report.text("privacy")


def test_only_full_results_are_joined_and_published_with_what_they_are_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    folder = tmp_path / "matrix"
    folder.mkdir()
    machine = {"cores": 2, "processor": "one", "python": "3.13"}
    of = {"size": "full", "seed": 0, "commit": "0123", "date": "2026-11-30", "machine": machine}
    (folder / "cost.quick.json").write_text('{"rows": [{}]}')
    assert published.charted() == ((), ())
    for name, rows in TABLES.items():
        (folder / f"{name}.json").write_text(json.dumps({**of, "rows": rows}))
    some, sources = published.charted()
    assert some == points(TABLES)
    assert [each.command for each in sources] == [
        f"secagg bench matrix {name} --size full --seed 0" for name in TABLES
    ]


def test_the_sentences_that_the_readme_begins_with_are_of_the_committed_numbers() -> None:
    tables = joined.measured()
    of = {each.name: each.values for each in points(tables)}

    def number(name: str, axis: str) -> float:
        value = of[name][axis]
        assert value is not None
        return value

    text = (harness.ROOT.parent / "README.md").read_text(encoding="utf-8")
    plain, masking, split, keep = (of[name] for name in ("plain", "masking", "split", "ckks, keep"))
    assert round(number("masking", "leakage")) == round(number("split", "leakage")) == 2
    assert (round(number("plain", "leakage")), keep["leakage"]) == (100, None)
    took = [f"{number(name, 'client_ms'):.1f}" for name in ("masking", "split", "ckks, keep")]
    assert took == ["4.3", "0.5", "20.4"]
    assert masking["bytes_up"] < 1
    assert split["bytes_up"] < 1
    assert f"{keep['bytes_up']:.1f}" == "3.6"
    for each in (masking, split, keep):
        assert abs(each["accuracy"] - plain["accuracy"]) < 0.5
    noised = [f"masking, distributed noise, epsilon {epsilon}" for epsilon in (50, 8, 1)]
    lost = [round(number("masking", "accuracy") - number(name, "accuracy")) for name in noised]
    assert lost == [4, 35, 85]
    assert not any(
        row["share"] for row in tables["leakage"] if row["protection"] in noised and row["share"] is not None
    )
    reading = cells_of(tables["leakage"], "protection", "adversary", "clients", "round")
    alone, trained = (
        [row["share"] for row in reading["masking", SERVER, n, at]] for n, at in ((2, 1), (10, 200))
    )
    assert (min(alone), round(100 * sum(trained) / len(trained))) == (1, 12)
    hiding = ("masking", "split", "ckks, keep", "ckks, release", "decoys, keep", "masking, by batches of 5")
    under = [-number(name, "resilience") for name in hiding]
    assert (round(min(under)), round(max(under))) == (32, 34)
    assert 0.3 < -number("plain", "resilience") < 0.5
    assert round(-number(noised[0], "resilience")) == 9
    groups = [f"masking, groups of {of}" for of in ("2, median, unsafe", "5, median")]
    assert [round(-number(name, "resilience")) for name in groups] == [6, 43]
    said = ("2 % of ten clients'", "for 4 ms", "for 0.5 ms", "3.6 times", "4, 35 and 85", "32 to 34 points")
    assert all(
        each in text
        for each in (
            *said,
            "of ten 12 %",
            "less than half a point",
            "leaves them 9",
            "leaves them 6 in",
            "and 43 in",
        )
    )
