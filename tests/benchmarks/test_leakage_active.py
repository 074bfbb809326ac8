"""A server that attacks: what comes out through its models, and that clients refuse to be sent others."""

from __future__ import annotations

import pytest

from benchmarks.leakage.active import (
    BLOCKS,
    FILLED,
    FITTED,
    FLOATS,
    HONEST,
    PERMUTED,
    SAME,
    SUPPRESSED,
    Company,
    Row,
    Setup,
    run_case,
    session,
    table,
)
from secagg import Counts


def rows_of(setup: Setup) -> list[Row]:
    return [row for row in run_case(setup, 0, "digits", "mlp") if not isinstance(row, str)]


def test_one_model_for_all_is_refused_by_none_and_its_masked_sum_gives_images() -> None:
    bare, filled = rows_of(Setup(SAME, 64, (FLOATS, FILLED)))
    assert bare["share"] > 0.2
    assert filled["share"] == pytest.approx(bare["share"], abs=0.05)
    assert filled["precision"] > 0.9
    assert (filled["context"], filled["refused"]) == (True, 0)


@pytest.mark.parametrize(("attack", "share"), [(SUPPRESSED, 0.9), (BLOCKS, 0.2)])
def test_a_model_for_each_works_where_clients_leave_it_out_of_their_context_and_all_refuse_it_else(
    attack: str, share: float
) -> None:
    rows = rows_of(Setup(attack, 64, (FLOATS, FITTED)))
    _, without, with_it = rows
    assert (without["context"], without["refused"]) == (False, 0)
    assert without["share"] > share
    assert without["mine"] == 1
    assert (with_it["context"], with_it["refused"], with_it["share"]) == (True, 10, 0)
    assert len(table(rows).rows) == 3


def test_neurons_of_ones_own_read_as_many_of_more_clients_and_everybodys_fewer() -> None:
    """Ten bins a client, of three and of six."""
    own = [rows_of(Setup(BLOCKS, 10 * n, (FLOATS,), n))[0] for n in (3, 6)]
    same = [rows_of(Setup(SAME, 10, (FLOATS,), n))[0] for n in (3, 6)]
    assert [row["clients"] for row in own] == [3, 6]
    assert own[1]["share"] > 0.7 * own[0]["share"] > 0.7 * 0.2
    assert same[1]["share"] < 0.6 * same[0]["share"]


def test_refusals_are_counted_and_a_common_task_has_none() -> None:
    vectors, inputs = {"count": Counts(length=1, maximum=9)}, {u: {"count": [u]} for u in range(7)}
    total, refused = session(vectors, inputs, dict.fromkeys(range(7), b"a task"))
    assert total is not None
    assert (total.sum["count"].tolist(), refused) == ([21], 0)
    assert session(vectors, inputs, {u: b"a task" if u else b"another" for u in range(7)}) == (None, 7)


def test_permuted_weights_are_the_same_numbers_in_every_neuron_and_fire_for_few_images() -> None:
    company = Company.drawn("digits", "mlp", 0)
    honest = company.models(Setup(HONEST, 64), 1.0, 0)[0]
    moved = company.models(Setup(PERMUTED, 64), 1.0, 0)[0]
    rows, others = (each[: 64 * 64].reshape(64, 64) for each in (honest, moved))
    assert (rows != others).any(axis=1).mean() > 0.9
    rows.sort(axis=1)
    others.sort(axis=1)
    assert (rows == others).all()
    assert (honest[64 * 64 :] == moved[64 * 64 :]).all()
