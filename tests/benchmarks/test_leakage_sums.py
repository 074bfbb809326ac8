"""What the table of peeled sums is made of: sums as they are decoded, and claims held against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.harness import NoControlError
from benchmarks.leakage import grouped, sums
from benchmarks.leakage.sums import BASE, FLOAT, TIGHT, Heard, run_case, table

SMALL = replace(BASE, dataset="digits", clients=2, examples=10, batch=3, bounds=(FLOAT, TIGHT))


def test_images_come_out_of_a_sum_and_no_fewer_are_said_to_than_do() -> None:
    rows = [row for row in run_case(SMALL, 0, 2) if not isinstance(row, str)]
    assert [row["bound"] for row in rows] == [FLOAT, TIGHT]
    for row in rows:
        assert row["precision"] > 0.9
        # Two rounds of six images of twenty, of which some are in both.
        assert 6 / 20 <= row["share"] <= 12 / 20
    assert len(table(rows).rows) == 2


def test_clipping_hides_no_image_and_noise_does() -> None:
    """Updates of three digits are of norm 1.6 and more."""
    clip = replace(SMALL, clip=1.0, bounds=(FLOAT,))
    (alone,) = (row for row in run_case(clip, 0, 2) if not isinstance(row, str))
    assert alone["precision"] > 0.9
    assert alone["share"] >= 6 / 20
    (noised,) = (row for row in run_case(replace(clip, noise=0.1), 0, 2) if not isinstance(row, str))
    assert noised["right"] == 0
    assert noised["epsilon"] > 0
    assert [row[6:9] for row in table([alone, noised]).rows] == [("1", "", ""), ("1", "0.1", "159")]


def test_noise_that_is_worth_an_epsilon_over_all_rounds_is_on_floats_and_on_codes() -> None:
    few = replace(SMALL, clip=1.0, budget=8.0)
    rows = [row for row in run_case(few, 0, 2) if not isinstance(row, str)]
    assert [(row["bound"], row["claims"]) for row in rows] == [(FLOAT, 0), (TIGHT, 0)]
    for row in rows:
        assert row["epsilon"] == pytest.approx(8, rel=1e-3)
        assert row["noise"] == pytest.approx(few.multiplier(2), rel=1e-3)
    assert few.multiplier(8) == pytest.approx(2 * few.multiplier(2), rel=1e-3)


def test_a_defence_has_the_bare_sum_of_as_many_rounds_beside_it() -> None:
    bare = dict.fromkeys(sums.CONTROL.by, 8) | {"bound": FLOAT, "noise": 0.0, "clip": None}
    sums.CONTROL.check([bare, bare | {"clip": 1.0, "noise": 0.5}])
    for other in ({"clip": 1.0}, {"noise": 0.5}, {"bound": TIGHT}):
        with pytest.raises(NoControlError):
            sums.CONTROL.check([bare | other])
    with pytest.raises(NoControlError):
        sums.CONTROL.check([bare, bare | {"clip": 1.0, "rounds": 20}])


def test_who_is_in_the_sums_that_an_image_came_out_of_tells_whose_it_is() -> None:
    few = replace(SMALL, clients=4, examples=6, chosen=2)
    rows = [row for row in grouped.run_case(few, 0, (2, 16)) if not isinstance(row, str)]
    first, last = (row["named"] / row["images"] for row in rows)
    assert first < last
    assert last > 0.5
    assert rows[-1]["rightly"] > 0.9 * rows[-1]["named"]
    everybody = [
        row for row in grouped.run_case(replace(few, chosen=None), 0, (4,)) if not isinstance(row, str)
    ]
    assert everybody[0]["named"] == 0
    assert len(grouped.table([*rows, *everybody]).rows) == 3


def test_where_no_image_came_out_nobody_is_named() -> None:
    hidden = replace(SMALL, clients=4, examples=6, chosen=2, clip=1.0, noise=0.1)
    rows = [row for row in grouped.run_case(hidden, 0, (2,)) if not isinstance(row, str)]
    assert [(row["images"], row["share"], row["named"], row["rightly"]) for row in rows] == [(0, 0, 0, 0)]
    assert grouped.table(rows).rows[0][3:] == ("0", "0.000", "no image", "")


def test_what_is_heard_of_a_session_is_the_sum_of_its_codes() -> None:
    updates = {u: np.random.default_rng(u).uniform(-1, 1, 5000) for u in range(4)}
    heard = Heard(SMALL, TIGHT, 1.0, np.random.default_rng(0))
    training = type("Training", (), {"parameters": np.zeros(5000)})()
    mean = heard.mean(training, updates)
    (part,) = heard.parts
    np.testing.assert_array_equal(part.updates[0], mean)
    off = mean - np.mean(list(updates.values()), axis=0)
    assert part.deviation == pytest.approx(off.std(), rel=0.1)
    assert 0.99 < heard.largest <= 1


@pytest.mark.parametrize("bound", [FLOAT, TIGHT])
def test_what_is_heard_has_noise_of_so_many_clips_in_its_sum_and_says_how_much(bound: str) -> None:
    updates = {u: np.random.default_rng(u).uniform(-1, 1, 5000) for u in range(4)}
    heard = Heard(replace(SMALL, clip=2.0), bound, 1.0, np.random.default_rng(0), noise=0.5)
    mean = heard.mean(type("Training", (), {"parameters": np.zeros(5000)})(), updates)
    each = [2 * x / np.linalg.norm(x) for x in updates.values()]
    off = mean - np.mean(each, axis=0)
    assert off.std() == pytest.approx(0.5 * 2 / 4, rel=0.05)
    assert heard.parts[0].deviation == pytest.approx(off.std(), rel=0.05)
    # Codes are rounded, by which a client's part of their sum can be longer than its clip.
    assert (heard.parts[0].deviation > 0.5 * 2 / 4 * 1.0005) == (bound == TIGHT)


def test_a_claim_is_right_within_30_db_and_counts_once() -> None:
    truth = np.eye(4)
    near, far = truth[0] + 0.03, truth[1] + np.array([0, 0, 0.2, 0])
    told = sums._scored(np.stack([near, truth[0], far]), truth)
    assert (told["claims"], told["right"], told["share"]) == (3, 2, 0.25)
    assert sums._scored(np.empty((0, 4)), truth)["precision"] is None
