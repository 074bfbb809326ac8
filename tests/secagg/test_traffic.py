"""The bytes that were sent are the bytes the formula says, to the last one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Bounded, Counts, Masking, Recorded, run
from secagg.masking.messages import traffic
from secagg.masking.server import ROUNDS
from secagg.session import ServerSession
from secagg.wire import MAX_ID
from tests.secagg.helpers import MIXED, mixed_inputs

IDS = [0, 5, 127, 128, 255, 256, 65535, 65536, MAX_ID]


Drop = Mapping[str, Collection[int]]


def check_traffic(scheme: Masking, inputs: Mapping[int, Any], drop: Drop, task: bytes) -> None:
    views = []

    def record(server: ServerSession) -> ServerSession:
        views.append(Recorded(server))
        return views[0]

    run(scheme, inputs, task=task, drop=drop, instrument=record)
    view, gone, alive = views[0].view, set(), {}
    for round in ROUNDS:
        gone |= set(drop.get(round, ()))
        alive[round] = inputs.keys() - gone
    U1, U2, U3 = (alive[round] for round in ("advertise-keys", "share-keys", "masked-input"))
    for u in alive["unmasking"]:
        up = {round: len(message) for round, v, message in view.received if v == u}
        down = {round: len(message) for round, v, message in view.sent if v == u}
        measured = {round: (up[round], down.get(round, 0)) for round in ROUNDS}
        assert measured == traffic(scheme, len(task), u, U1, U2, U3)


@pytest.mark.parametrize("drop", [{}, {round: {u} for u, round in enumerate(ROUNDS)}])
@pytest.mark.parametrize("clients", [11, 15, 16, 17, 18, 19, 20])
def test_the_traffic_is_the_formula_around_the_sizes_of_headers(clients: int, drop: Drop) -> None:
    """A map or a list of sixteen entries has a longer header than one of fifteen."""
    scheme = Masking.for_cohort(clients, MIXED)
    check_traffic(scheme, mixed_inputs(range(clients)), drop, b"model")


def test_the_traffic_is_the_formula_where_sixteen_are_dropped_at_once() -> None:
    scheme = Masking.for_cohort(35, MIXED)
    check_traffic(scheme, mixed_inputs(range(35)), {"masked-input": range(16)}, b"")


@pytest.mark.parametrize("round", ROUNDS)
def test_the_traffic_is_the_formula_for_large_ids(round: str) -> None:
    scheme = Masking.for_cohort(len(IDS), MIXED)
    check_traffic(scheme, mixed_inputs(IDS), {round: {5, 255, 65536, MAX_ID}}, b"")
    check_traffic(scheme, mixed_inputs(IDS), {round: {0, 128, 65535}}, b"")


@pytest.mark.parametrize("length", [0, 255, 256, 65535, 65536])
def test_the_traffic_is_the_formula_for_long_tasks_and_vectors(length: int) -> None:
    specs = {"a": Counts(length=max(length, 1), maximum=85), "b": Bounded(length=9, bound=1.0)}
    assert specs["a"].ring_bits(3) == 8
    inputs = {u: {"a": [1] * max(length, 1), "b": [0.5] * 9} for u in range(3)}
    check_traffic(Masking.for_cohort(3, specs), inputs, {}, bytes(length))


def test_the_traffic_is_the_formula_for_many_vectors() -> None:
    for count in (15, 16, 64):
        specs = {str(i): Counts(length=1 + i, maximum=2**i) for i in range(count) if i < 53}
        inputs = {u: {str(i): [u % 2] * (1 + i) for i in range(count) if i < 53} for u in range(3)}
        check_traffic(Masking.for_cohort(3, specs), inputs, {"unmasking": {1}}, b"")


@settings(max_examples=50)
@given(st.data())
def test_the_traffic_is_the_formula_for_any_cohort(data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, MAX_ID), min_size=3, max_size=9, unique=True))
    scheme = Masking.for_cohort(len(ids), MIXED)
    lost = data.draw(st.permutations(ids))[: len(ids) - scheme.threshold]
    drop: dict[str, set[int]] = {}
    for u in lost:
        drop.setdefault(data.draw(st.sampled_from(ROUNDS)), set()).add(u)
    check_traffic(scheme, mixed_inputs(ids), drop, data.draw(st.binary(max_size=300)))
