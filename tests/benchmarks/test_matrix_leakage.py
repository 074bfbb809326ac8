"""What comes out under each protection, of real sessions at a small size: who reads what, and what of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks import adversaries, harness
from benchmarks.adversaries import CLIENT, EAVESDROPPER, RELAY, SERVER, Recorded, Stage
from benchmarks.harness import NoControlError, Row
from benchmarks.inverted import cells_of
from benchmarks.matrix import leakage
from benchmarks.matrix.leakage import Size, run_case
from benchmarks.protections import CLIP, PLAIN, PROTECTIONS, QUICK, by_name
from fl.leakage.views import Part, View
from fl.models.architectures import build
from fl.models.weights import to_vector
from fl.privacy.accounting import epsilon
from fl.privacy.releases import Gaussian
from tests.benchmarks.cases import no_data, shown

SMALL = Size(PROTECTIONS, (2, 4), (1, 3), 1, 0.02, dataset="digits")
CENTRAL = "masking, central noise, epsilon 8"
LOCAL, DISTRIBUTED = "plain, local noise, epsilon 8", "masking, distributed noise, epsilon 8"


@lru_cache
def stage() -> Stage:
    return Stage.of("digits", 4, SMALL.rounds, 0)


def recorded(name: str, round: int = 1, clients: int = 4) -> Recorded:
    return Recorded.of(by_name(name), stage(), round, clients, 0)


def rows_of(name: str, clients: int) -> list[Row]:
    return [row for row in run_case(SMALL, name, clients, 0) if not isinstance(row, str)]


def by(rows: Sequence[Row], adversary: str) -> list[Row]:
    return [row for row in rows if row["adversary"] == adversary]


def test_every_image_comes_out_of_plain_and_of_a_bare_sum_for_a_client_too_and_none_of_noise() -> None:
    plain, summed, noised = (rows_of(name, 2) for name in ("plain", "masking", DISTRIBUTED))
    for rows in (plain, summed, noised):
        assert [(row["round"], row["adversary"]) for row in rows] == [
            (round, who) for round in SMALL.rounds for who in (SERVER, CLIENT, EAVESDROPPER)
        ]
        assert [row["images"] for row in rows[:3]] == [16, 8, 0]
    for row in (*by(plain, SERVER), *by(plain, CLIENT), *by(summed, CLIENT)):
        assert (row["share"], row["by"], row["without"]["share"]) == (1, "peeling", 0)
        assert row["psnr"]["median"] > 45
    assert all(row["share"] > 0.9 for row in by(summed, SERVER))
    for row in (*by(noised, SERVER), *by(noised, CLIENT)):
        assert row["share"] == 0
        assert {"analytic", "peeling", "inversion"} == row["shares"].keys()
    for rows in (plain, summed):
        assert all(row["labels"] >= 12 > row["chance"] for row in by(rows, SERVER))
    assert [row["linkage"] for row in (*by(plain, SERVER), *by(summed, SERVER))] == [None] * 4
    every = [*plain, *summed, *noised]
    shown(leakage, every)
    server, client, *_, tap, listening = leakage.table(every).rows
    assert tap == ("any other", "a client's tap", *server[2:])
    assert listening == ("any", EAVESDROPPER, "-", "-", "", "", "")
    assert server[:4] == ("plain", SERVER, "100", "100")
    assert client[:4] == ("plain", CLIENT, "100", "100")
    with pytest.raises(NoControlError):
        leakage.CONTROL.check(summed)


def test_what_does_not_apply_has_a_reason_and_no_number() -> None:
    kept, batches = rows_of("ckks, keep", 4), rows_of("masking, by batches of 5", 2)
    assert [row["share"] for row in (*by(kept, SERVER), *by(kept, EAVESDROPPER), *batches)] == [None] * 10
    for what in ("share_why", "labels_why"):
        assert {row[what] for row in by(kept, SERVER)} == {
            "the clients keep the sum: the server has ciphertexts under a key of theirs"
        }
    (why,) = {row["share_why"] for row in by(kept, EAVESDROPPER)}
    assert "tests/transport/test_capture.py" in why
    assert (Path(__file__).parents[2] / "tests/transport/test_capture.py").exists()
    (why,) = {row["share_why"] for row in batches}
    assert why.startswith("there is no such session of 2 clients: a batch of 5 is impossible")
    assert all(row["share"] > 0 for row in by(kept, CLIENT))  # who have the sum
    assert {cell for row in leakage.table(batches).rows for cell in row[2:4]} == {"none"}
    server, client, _ = leakage.table(kept).rows
    (white,) = leakage.plot(kept).axes[0].images
    assert np.ma.getmaskarray(np.ma.masked_invalid(white.get_array())).all()
    assert np.isfinite(white.get_clim()).all()
    assert server[2:4] == ("-", "-")
    assert "-" not in client[2:4]


def test_whose_an_update_of_the_next_round_is_stands_in_single_updates_and_not_in_a_sum() -> None:
    """The same eight images make it, by another model."""
    assert leakage.linkage(recorded("plain")) == {"linkage": 1}
    assert leakage.linkage(recorded("masking")) == {"linkage": None, "linkage_why": leakage.ONE_SUM}
    assert leakage.linkage(recorded("plain", clients=2))["linkage"] is None


def test_a_server_reads_the_sum_of_each_group_and_a_client_what_a_rule_made_of_them() -> None:
    """Of two groups of two clients; a client's own share of a median is not known, and not taken off."""
    name = "masking, groups of 2, median, unsafe"
    there = recorded(name)
    assert [len(part.members) for part in there.read_by(SERVER).parts] == [2, 2]
    (whole,) = there.read_by(CLIENT).parts
    assert whole.members == frozenset(range(4))
    rows = rows_of(name, 4)
    assert [row["images"] for row in rows[:3]] == [32, 32, 0]
    assert all(row["share"] > max(each["share"] for each in by(rows, CLIENT)) for row in by(rows, SERVER))
    nobody = rows_of("masking, groups of 5, median", 4)
    assert {row["share"] for row in nobody} == {None}


def test_of_sums_of_groups_those_of_ten_clients_are_attacked() -> None:
    def first(members: int, of: int) -> int:
        parts = [Part(frozenset(range(i, i + members)), np.zeros((1, 1))) for i in range(0, of, members)]
        return len(leakage._few(View(tuple(parts))).parts)

    assert [first(size, 40) for size in (1, 2, 5, 10, 40)] == [10, 5, 2, 1, 1]
    assert first(4, 40) == 3


def test_a_relay_reads_shares_which_are_no_images_and_no_other_scheme_has_one() -> None:
    rows = rows_of("split", 4)
    for row in by(rows, RELAY):
        assert row["images"] in (8, 16, 24)  # of the clients whose vector is with it
        assert row["share"] == 0
    assert all(row["share"] > 0 for row in by(rows, SERVER))
    assert [row.name for row in PROTECTIONS if RELAY in adversaries.adversaries(row)] == ["split"]


def test_the_server_of_decoys_reads_every_candidate_and_has_the_model_of_the_first_round_alone() -> None:
    rows = rows_of("decoys, keep", 2)
    assert [row["share"] > 0.4 for row in by(rows, SERVER)] == [True, True]
    later = recorded("decoys, keep", 3, 2)
    first = to_vector(build(adversaries.MODEL, (1, 8, 8), 10, 0))
    for part in later.read_by(SERVER).parts:
        assert len(part.updates) == 4
        np.testing.assert_array_equal(part.before, first)
    (part,) = later.read_by(CLIENT).parts
    np.testing.assert_array_equal(part.before, stage().models[3])
    assert not np.array_equal(stage().models[3], first)


@pytest.mark.parametrize("name", ["plain", LOCAL, "masking", "ckks, release", "ckks, keep", "decoys, keep"])
def test_a_client_reads_what_the_others_sent_and_how_far_off_it_is(name: str) -> None:
    at = recorded(name, 3)
    (part,) = at.read_by(CLIENT).parts
    assert part.members == {1, 2, 3}
    off = part.updates[0] - np.mean([at.seen.uploads[u] for u in (1, 2, 3)], axis=0)
    assert np.sqrt(np.mean(np.square(off))) < 2 * part.deviation
    assert part.deviation < 1e-3 * np.abs(part.updates).max()


def test_the_noise_of_a_server_is_in_what_the_clients_read_and_not_in_its_sum() -> None:
    at = recorded(CENTRAL)
    (summed,), (others,) = at.read_by(SERVER).parts, at.read_by(CLIENT).parts
    clipped = [x * min(1, CLIP / float(np.linalg.norm(x))) for _, x in sorted(at.seen.uploads.items())]
    assert np.abs(summed.updates[0] - np.mean(clipped, axis=0)).max() < 1e-4
    noise = (others.updates[0] - np.mean(clipped[1:], axis=0)).std()
    assert noise == pytest.approx(others.deviation, rel=0.05)
    assert noise > 0.1


@pytest.mark.parametrize("name", [LOCAL, DISTRIBUTED, CENTRAL, "plain, noise in the steps, epsilon 8"])
def test_the_noise_of_the_round_is_that_of_an_epsilon_over_fifteen(name: str) -> None:
    privacy = recorded(name).seen.config.privacy
    assert privacy.noise_multiplier is not None
    spent = epsilon([Gaussian(privacy.noise_multiplier, steps=15)], privacy.delta)
    # Integers are rounded, which costs a little more noise.
    assert 7.2 < spent < 8 if name == DISTRIBUTED else spent == pytest.approx(8, rel=1e-3)


def test_a_bound_is_as_tight_as_the_updates_allow() -> None:
    for name, round in (("masking", 1), ("split", 3)):
        at = recorded(name, round)
        largest = max(float(np.abs(x).max()) for x in at.seen.uploads.values())
        assert 1 <= (at.seen.config.protection.bound or 0) / largest < 1.0001


def test_smaller_cohorts_are_the_first_of_larger_ones_and_all_rows_have_one_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = stage().cohort(2)
    for u in range(2):
        np.testing.assert_array_equal(few.examples(u)[0], stage().layout.examples(u)[0])
        assert len(few.examples(u)[1]) == adversaries.IMAGES
    other = Stage.of("digits", 4, (3,), 0)
    np.testing.assert_array_equal(other.models[3], stage().models[3])
    no_data(monkeypatch, lambda: Stage.of("mnist", 4, (3,), 0))


def test_a_full_table_is_of_every_protection() -> None:
    assert leakage.SIZES["full"].protections == PROTECTIONS
    assert leakage.SIZES["quick"].protections == QUICK
    assert PLAIN in QUICK
    assert len(leakage.cases("full", 0)) == len({case.name for case in leakage.cases("full", 0)}) == 144


def measured(name: str, adversary: str) -> dict[tuple[int, int], list[Row]]:
    """(clients, round) -> the seeds, of the committed rows."""
    rows = [row for row in harness.read("matrix", "leakage")["rows"] if row["protection"] == name]
    return cells_of(by(rows, adversary), "clients", "round")


def out(name: str, adversary: str) -> dict[tuple[int, int], int]:
    """How many percent of the images come out, where there is something to read."""
    cells = measured(name, adversary)
    return {
        at: round(100 * float(np.mean([row["share"] for row in some])))
        for at, some in cells.items()
        if some[0]["share"] is not None
    }


def test_the_committed_rows_show_whom_which_protection_hides_images_from() -> None:
    assert {*out("plain", SERVER).values()} <= {98, 99, 100}
    of_two = {round: [] for round in (1, 20, 200)}
    for name in ("masking", "split", "ckks, release"):
        share = out(name, SERVER)
        assert [share[10, round] for round in (1, 20, 200)] == [2, 4, 12]
        assert [share[50, round] for round in (1, 20, 200)] == [0, 0, 1]
        for round in of_two:
            of_two[round].append(share[2, round])
    assert [(min(some), max(some)) for some in of_two.values()] == [(100, 100), (79, 85), (46, 52)]
    assert out("ckks, keep", SERVER) == {}
    assert {*out("split", RELAY).values()} == {0}
    for row in PROTECTIONS:
        noised = "noise" in row.name
        found = out(row.name, CLIENT)
        if (2, 1) in found:
            least, most = (0, 0) if noised else (46, 100)
            assert all(least <= found[2, round] <= most for round in (1, 20, 200))
        if noised and row.name != CENTRAL:
            assert not any(out(row.name, SERVER).values())
    assert [out(CENTRAL, SERVER)[10, round] for round in (1, 20, 200)] == [2, 4, 9]
    chosen = out("decoys, keep", SERVER)
    assert {share for (_, round), share in chosen.items() if round == 1} == {100}
    later = [share for (_, round), share in chosen.items() if round > 1]
    assert (min(later), max(later)) == (29, 46)
    fives, twos = (out(f"masking, groups of {of}", SERVER) for of in ("5, median", "2, median, unsafe"))
    assert [fives[10, round] for round in of_two] == [9, 16, 16]
    assert [[twos[n, round] for round in of_two] for n in (10, 50)] == [[91, 74, 35], [78, 78, 27]]
    assert max(out("masking, groups of 2, median, unsafe", CLIENT).values()) == 1


def test_the_committed_rows_show_labels_and_whose_updates_are_whose() -> None:
    def told(name: str) -> tuple[int, int]:
        some = measured(name, SERVER)[10, 1]
        images = sum(row["images"] for row in some)
        right, chance = (sum(row[each] for row in some) for each in ("labels", "chance"))
        return round(100 * right / images), round(100 * chance / images)

    assert (told("plain"), told("masking")) == ((100, 58), (100, 87))
    assert told("decoys, keep") == (90, 58)
    for row in PROTECTIONS:
        if row.name != "ckks, keep" and measured(row.name, SERVER):
            right, chance = told(row.name)
            of_their_own = "noise" in row.name and row.name != CENTRAL
            assert right < chance if of_their_own else right >= 90
    areas = {
        row.name: float(np.mean(some))
        for row in PROTECTIONS
        if (
            some := [
                each["linkage"]
                for cell in measured(row.name, SERVER).values()
                for each in cell
                if each.get("linkage") is not None
            ]
        )
    }
    assert {name: f"{area:.2f}" for name, area in areas.items()} == {
        "plain": "0.99",
        "decoys, keep": "1.00",
        LOCAL: "0.47",
        "plain, noise in the steps, epsilon 8": "0.50",
    }
