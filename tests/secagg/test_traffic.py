"""The bytes that were sent are the bytes the formula says, to the last one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from secagg import Bounded, Counts, Masking, Recorded, run
from secagg.masking.messages import traffic
from secagg.session import ServerSession
from secagg.wire import MAX_ID
from tests.secagg.helpers import MASKING, MIXED, ROUNDS, credentials, mixed_inputs

IDS = [0, 5, 127, 128, 255, 256, 65535, 65536, MAX_ID]


Drop = Mapping[str, Collection[int]]
every_make = pytest.mark.parametrize("make", MASKING.values(), ids=MASKING)


def check_traffic(scheme: Masking, inputs: Mapping[int, Any], drop: Drop, task: bytes) -> None:
    views, servers = [], []

    def record(server: ServerSession) -> ServerSession:
        servers.append(server)
        views.append(Recorded(server))
        return views[0]

    run(scheme, inputs, task=task, drop=drop, instrument=record, **credentials(scheme, inputs))
    view, gone, alive = views[0].view, set(), {}
    for round in scheme.rounds:
        gone |= set(drop.get(round, ()))
        alive[round] = inputs.keys() - gone
    sets = [alive[round] for round in ("advertise-keys", "share-keys", "masked-input")]
    sets += [alive[round] for round in scheme.rounds if round == "consistency-check"]
    for u in alive["unmasking"]:
        up = {round: len(message) for round, v, message in view.received if v == u}
        down = {round: len(message) for round, v, message in view.sent if v == u}
        measured = {round: (up[round], down.get(round, 0)) for round in scheme.rounds}
        opened = None if scheme.groups is UNSET else servers[0]._shares
        if scheme.complete:
            assert measured == traffic(scheme, len(task), u, *sets, opened=opened)
        holders = servers[0]._graph.holders(u)
        U4 = sets[3] if scheme.adversary == "active" else None
        assert measured == traffic(scheme, len(task), u, *sets[:3], U4=U4, holders=holders, opened=opened)


@pytest.mark.parametrize(
    ("clients", "one_each_round"), [(15, False), (16, False), (17, False), (11, True), (18, True), (20, True)]
)
@every_make
def test_the_traffic_is_the_formula_around_the_sizes_of_headers(
    make: Any, clients: int, one_each_round: bool
) -> None:
    """A map or a list of sixteen entries has a longer header than one of fifteen."""
    scheme = make(range(clients), MIXED)
    lost = scheme.rounds[: clients - scheme.threshold] if one_each_round else ()
    drop = {round: {u} for u, round in enumerate(lost)}
    check_traffic(scheme, mixed_inputs(range(clients)), drop, b"model")


@every_make
def test_the_traffic_is_the_formula_where_sixteen_are_dropped_at_once(make: Any) -> None:
    scheme = make(range(35), MIXED, corrupt=1, threshold=19)
    check_traffic(scheme, mixed_inputs(range(35)), {"masked-input": range(16)}, b"")


@pytest.mark.parametrize(("name", "round"), [(name, round) for name in MASKING for round in ROUNDS[name]])
def test_the_traffic_is_the_formula_for_large_ids(name: str, round: str) -> None:
    scheme = MASKING[name](IDS, MIXED)
    assert scheme.clients - scheme.threshold >= 2
    for drop in ({65536, MAX_ID}, {0, 255}):
        check_traffic(scheme, mixed_inputs(IDS), {round: drop}, b"")


@pytest.mark.parametrize("length", [0, 255, 256, 65535, 65536])
@every_make
def test_the_traffic_is_the_formula_for_long_tasks_and_vectors(make: Any, length: int) -> None:
    specs = {"a": Counts(length=max(length, 1), maximum=85), "b": Bounded(length=9, bound=1.0)}
    assert specs["a"].ring_bits(3) == 8
    inputs = {u: {"a": [1] * max(length, 1), "b": [0.5] * 9} for u in range(3)}
    check_traffic(make(range(3), specs), inputs, {}, bytes(length))


@every_make
def test_the_traffic_is_the_formula_for_many_vectors(make: Any) -> None:
    for count in (15, 16, 64):
        specs = {str(i): Counts(length=1 + i, maximum=2 ** (i % 53)) for i in range(count)}
        inputs = {u: {str(i): [u % 2] * (1 + i) for i in range(count)} for u in range(5)}
        check_traffic(make(range(5), specs), inputs, {"unmasking": {1}}, b"")


@pytest.mark.parametrize("dropout", [3, 6, 7, 8])
@every_make
def test_the_traffic_is_the_formula_on_the_sparse_graph(make: Any, dropout: int) -> None:
    """Around the sizes of the headers of k entries, of more than sixteen clients and of ids above 255."""
    ids = [20 * i for i in range(24)]
    scheme = make(ids, MIXED, corrupt=1, dropout=dropout, graph="sparse")
    assert not scheme.complete
    drop = {round: {ids[5 * i]} for i, round in enumerate(scheme.rounds[2:5], 1)}
    check_traffic(scheme, mixed_inputs(ids), drop, b"model")


@settings(max_examples=15)
@every_make
@given(st.data())
def test_the_traffic_is_the_formula_for_any_cohort(make: Any, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, MAX_ID), min_size=3, max_size=9, unique=True))
    scheme = make(ids, MIXED)
    lost = data.draw(st.permutations(ids))[: len(ids) - scheme.threshold]
    drop: dict[str, set[int]] = {}
    for u in lost:
        drop.setdefault(data.draw(st.sampled_from(scheme.rounds)), set()).add(u)
    check_traffic(scheme, mixed_inputs(ids), drop, data.draw(st.binary(max_size=300)))


@pytest.mark.parametrize("graph", ["complete", "sparse"])
@every_make
def test_the_traffic_is_the_formula_of_groups(make: Any, graph: str) -> None:
    """Of one that is not opened no shares travel; and rings are those of a group."""
    ids = [20 * i for i in range(24)]
    scheme = make(ids, MIXED, corrupt=1, dropout=6, graph=graph, groups=6 // 2, m_g=8, public_weights=True)
    assert scheme.ring_bits()["counts"] < make(ids, MIXED).ring_bits()["counts"]
    check_traffic(scheme, mixed_inputs(ids), {"masked-input": {0}, "unmasking": {20}}, b"model")
