"""The ledger against Gaussian elimination in fractions, and what is known of what sums over rounds reveal."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from flint import fmpz_mat
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import LocalProtocolError
from secagg.ledger import WINDOW, Helper, Ledger, LedgerReport, _isolated, _primes

Sets = Sequence[Collection[int]]

CLIENTS = range(6)
survivor_sets = st.lists(st.sets(st.sampled_from(CLIENTS), min_size=1), max_size=9)
some_clients = st.sets(st.sampled_from(CLIENTS), max_size=3)


def ledger(sets: Sets, window: int = WINDOW) -> Ledger:
    kept = Ledger(window)
    for survivors in sets:
        kept.record(survivors)
    return kept


def report(sets: Sets, corrupt: Collection[int] = (), window: int = WINDOW) -> LedgerReport:
    return ledger(sets, window).report(corrupt)


def rank(rows: Sequence[Sequence[int]]) -> int:
    """By elimination in fractions, row by row."""
    basis: list[tuple[int, list[Fraction]]] = []
    for row in rows:
        rest = [Fraction(x) for x in row]
        for pivot, other in basis:
            factor = rest[pivot]
            rest = [x - factor * y for x, y in zip(rest, other, strict=True)]
        if any(rest):
            pivot = next(j for j, x in enumerate(rest) if x)
            basis.append((pivot, [x / rest[pivot] for x in rest]))
    return len(basis)


def matrix(sets: Sets, corrupt: Collection[int] = ()) -> list[list[int]]:
    return [[int(u in survivors and u not in corrupt) for u in CLIENTS] for survivors in sets]


def isolated_by_definition(sets: Sets, corrupt: Collection[int] = ()) -> set[int]:
    """Clients whose unit vector does not raise the rank."""
    rows = matrix(sets, corrupt)
    return {u for u in CLIENTS if rank(rows) == rank([*rows, [int(u == v) for v in CLIENTS]])}


def sessions_with_dropouts(n: int, seed: int, dropout: float = 0.1) -> Iterator[list[int]]:
    rng = np.random.default_rng(seed)
    while True:
        if survivors := np.flatnonzero(rng.random(n) >= dropout).tolist():
            yield survivors


# Updates: whom combinations isolate


def test_a_retry_with_one_client_fewer_isolates_it_as_a_difference_of_two_sums() -> None:
    found = report([{1, 2, 3, 4}, {1, 2, 4}])
    assert found.alike.clients == {3}
    assert found.alike.smallest_norm == math.sqrt(2)
    assert found.smallest_difference == 1


def test_the_same_two_sets_once_more_average_the_norm_down() -> None:
    assert report([{1, 2, 3, 4}, {1, 2, 4}] * 2).alike.smallest_norm == 1


def test_a_sum_of_one_client_is_isolated_with_norm_one() -> None:
    assert report([{7}]).alike.clients == {7}
    assert report([{7}]).alike.smallest_norm == 1


def test_three_sums_of_two_isolate_all_three_clients_although_no_two_of_the_sums_do() -> None:
    pairs = [{1, 2}, {2, 3}, {1, 3}]
    assert report(pairs).alike.clients == {1, 2, 3}
    assert report(pairs).alike.smallest_norm == math.sqrt(3 / 4)
    for two in combinations(pairs, 2):
        assert not report(two).alike.clients


def test_the_smallest_norm_is_that_of_the_client_it_is_smallest_for() -> None:
    assert report([{1, 2, 3}, {2, 3}, {3, 4}, {4, 5}, {3, 5}]).alike.smallest_norm == math.sqrt(3 / 4)


def test_the_same_set_again_isolates_nobody() -> None:
    found = report([{1, 2, 3}] * 5)
    assert not found.alike.clients
    assert found.alike.smallest_norm is None
    assert not found.weights


def test_clients_that_drop_out_together_are_not_isolated() -> None:
    found = report([{1, 2, 3, 4}, {1, 2}])
    assert not found.alike.clients
    assert found.smallest_difference == 2


@given(survivor_sets, some_clients)
def test_isolated_are_the_clients_whose_unit_vector_is_in_the_row_space(
    sets: Sets, corrupt: set[int]
) -> None:
    found = report(sets, corrupt)
    expected = isolated_by_definition(sets, corrupt)
    assert found.alike.clients == expected
    assert found.weights == expected  # the window holds them all


@given(survivor_sets, some_clients)
def test_the_smallest_norm_is_that_of_the_pseudo_inverse(sets: Sets, corrupt: set[int]) -> None:
    found = report(sets, corrupt).alike
    if not found.clients:
        assert found.smallest_norm is None
        return
    # Column u of the pseudo-inverse of M^T is the shortest c with M^T c = e_u.
    shortest = np.linalg.pinv(np.array(matrix(sets, corrupt), float).T)
    expected = min(float(np.linalg.norm(shortest[:, u])) for u in found.clients)
    assert found.smallest_norm == pytest.approx(expected, abs=1e-9)


@given(survivor_sets.filter(bool), st.data())
def test_recording_a_set_again_never_raises_the_norm(sets: Sets, data: st.DataObject) -> None:
    before = report(sets).alike
    after = report([*sets, data.draw(st.sampled_from(sets))]).alike
    assert after.clients == before.clients
    if before.smallest_norm is not None:
        assert after.smallest_norm is not None
        assert after.smallest_norm <= before.smallest_norm


# Colluders


def test_a_colluders_column_is_removed_first() -> None:
    sets = [{1, 2, 3}, {2, 4}]
    assert not report(sets).alike.clients
    assert report(sets, corrupt={4}).alike.clients == {2}
    assert report(sets, corrupt={2}).alike.clients == {4}


def test_a_colluder_is_never_reported() -> None:
    found = report([{1, 2, 3}, {1, 2}], corrupt={3})
    assert not found.alike.clients
    assert not found.weights
    assert found.seen == 2
    assert found.helper == Helper(1, frozenset({2}))


def test_colluders_who_were_in_no_set_change_nothing() -> None:
    sets = [{1, 2, 3}, {1, 2}]
    assert report(sets, corrupt={8, 9}) == report(sets)


def test_sets_of_colluders_alone_isolate_nobody() -> None:
    found = report([{1, 2}, {1}], corrupt={1, 2})
    assert not found.alike.clients
    assert not found.weights
    assert found.smallest_difference is None
    assert found.seen == 0


@given(survivor_sets, some_clients)
def test_the_worst_helper_isolates_as_many_others_as_any(sets: Sets, corrupt: set[int]) -> None:
    alone = isolated_by_definition(sets, corrupt)
    gains = {
        u: isolated_by_definition(sets, {*corrupt, u}) - alone - {u} for u in CLIENTS if u not in corrupt
    }
    helper = report(sets, corrupt).helper
    most = max(map(len, gains.values()))
    if helper is None:
        assert most == 0
    else:
        assert len(helper.isolates) == most > 0
        assert helper.isolates == gains[helper.client]
        assert helper.client == min(u for u, gain in gains.items() if len(gain) == most)


def test_a_helper_that_splits_a_sum_of_two_is_found() -> None:
    assert report([{5, 3}]).helper == Helper(3, frozenset({5}))


def test_a_helper_that_unlocks_a_chain_of_sums_is_worse_than_one_that_splits_a_sum() -> None:
    found = report([{1, 2}, {3, 4}, {4, 5}, {5, 6}])
    assert not found.alike.clients
    assert found.helper == Helper(3, frozenset({4, 5, 6}))


def test_a_helper_counts_whatever_multiple_of_its_vector_is_in_the_way() -> None:
    """{1, 3} + {1, 4} - {2, 3, 4} is twice client 1 less client 2."""
    assert report([{2, 3, 4}, {1, 3}, {1, 4}]).helper == Helper(1, frozenset({2, 3, 4}))


def test_of_helpers_that_are_equally_bad_the_smallest_id_is_named() -> None:
    assert report([{3, 4}, {1, 2}, {5, 6}]).helper == Helper(1, frozenset({2}))


def test_there_is_no_helper_for_a_sum_of_three() -> None:
    assert report([{1, 2, 3}]).helper is None


def test_a_helper_that_leaves_sums_of_two_is_none() -> None:
    assert report([{1, 2, 3}, {1, 4, 5}]).helper is None


# The smallest difference


@given(survivor_sets, some_clients)
def test_the_smallest_difference_is_between_two_different_sets(sets: Sets, corrupt: set[int]) -> None:
    without = [set(survivors) - corrupt for survivors in sets]
    sizes = [len(a ^ b) for a, b in combinations(without, 2) if a != b]
    assert report(sets, corrupt).smallest_difference == min(sizes, default=None)


def test_pairs_of_sets_that_are_too_near_are_named() -> None:
    ledger = Ledger(window=3)
    for some in ({9}, {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3}):
        ledger.record(some)
    assert ledger.report(apart=2).near == ((2, 4), (3, 4))
    assert ledger.report({4}, apart=2).near == ()  # equal, without the colluder
    assert "too near: the sets of sums 2 and 4, 3 and 4 differ" in "\n".join(ledger.report().lines())
    assert not any("too near" in line for line in ledger.report(apart=1).lines())


def test_sets_that_differ_in_colluders_alone_are_equal() -> None:
    assert report([{1, 2, 3}, {1, 2}], corrupt={3}).smallest_difference is None


# Window and weights


def test_the_window_forgets_the_sets_before_it() -> None:
    sets = [{1, 2, 3}, {1, 2}, {1, 2, 3}]
    assert report(sets, window=2).alike.clients == {3}
    found = report([*sets, {1, 2, 3}], window=2)
    assert not found.alike.clients
    assert found.smallest_difference is None
    assert found.helper is None


def test_weights_are_determined_by_all_sets_whatever_the_window() -> None:
    found = report([{1, 2, 3}, {1, 2}, {1, 2, 3}, {1, 2, 3}], window=1)
    assert found.weights == {3}
    assert not found.alike.clients


@given(survivor_sets, st.integers(1, 9))
def test_the_updates_of_a_window_are_those_of_its_sets_alone(sets: Sets, window: int) -> None:
    whole, recent = report(sets, window=window), report(sets[-window:])
    assert whole.alike == recent.alike
    assert whole.helper == recent.helper
    assert whole.smallest_difference == recent.smallest_difference


@given(survivor_sets, some_clients)
def test_a_determined_weight_stays_determined_as_sets_are_added(sets: Sets, corrupt: set[int]) -> None:
    kept, before = Ledger(window=2), frozenset[int]()
    for survivors in sets:
        kept.record(survivors)
        assert before <= (before := kept.report(corrupt).weights)


BANDS = [(8, 20, 12, 26), (20, 6, 23, 39), (100, 2, 100, 103)]  # n, seeds, and the mean is from, to


@pytest.mark.parametrize(("n", "seeds", "least", "most"), BANDS)
def test_dropouts_of_a_tenth_determine_every_constant_weight_after_about_n_sessions(
    n: int, seeds: int, least: int, most: int
) -> None:
    """Measured, means of 400 / 200 / 20 seeds: 18.7 / 29.9 / 100.0 sessions at n = 8 / 20 / 100."""

    def needed(seed: int) -> int:
        kept = Ledger(window=1)
        for survivors in sessions_with_dropouts(n, seed):
            kept.record(survivors)
            if len(kept.report().weights) == n:
                return kept.sessions
        raise AssertionError

    assert least <= sum(map(needed, range(seeds))) / seeds <= most


# Fixed batches (So et al. 2021)


@st.composite
def batches_of(draw: st.DrawFn, smallest: int) -> list[list[int]]:
    sizes = draw(st.lists(st.integers(smallest, 4), min_size=1, max_size=4))
    ids = iter(draw(st.permutations(range(sum(sizes)))))
    return [[next(ids) for _ in range(size)] for size in sizes]


def unions(batches: list[list[int]]) -> st.SearchStrategy[list[list[int]]]:
    union = st.lists(st.sampled_from(batches), min_size=1, unique_by=tuple).map(
        lambda some: [u for batch in some for u in batch]
    )
    return st.lists(union, min_size=1, max_size=12)


@given(st.data())
def test_unions_of_whole_batches_isolate_nobody(data: st.DataObject) -> None:
    batches = data.draw(batches_of(smallest=2))
    found = report(data.draw(unions(batches)))
    assert not found.alike.clients
    assert not found.weights
    smallest = min(map(len, batches))
    assert found.smallest_difference is None or found.smallest_difference >= smallest
    assert found.helper is None or smallest == 2


@given(st.data())
def test_colluders_who_leave_two_of_every_batch_isolate_nobody(data: st.DataObject) -> None:
    batches = data.draw(batches_of(smallest=3))
    found = report(data.draw(unions(batches)), corrupt={batch[0] for batch in batches})
    assert not found.alike.clients
    assert not found.weights


@given(st.data())
def test_a_batch_broken_once_isolates_the_client_that_left_it(data: st.DataObject) -> None:
    batches = data.draw(batches_of(smallest=2))
    sets = data.draw(unions(batches))
    lost, *others = data.draw(st.sampled_from(sets))
    found = report([*sets, others])
    assert lost in found.alike.clients & found.weights
    assert found.smallest_difference == 1


# Exactness


# Every minor of seven columns is at most 32: whatever their order, the product of these is not too small.
small_primes = st.permutations([2, 3, 5, 7, 11, 13])

matrices = st.integers(1, 7).flatmap(
    lambda g: st.lists(st.lists(st.integers(0, 1), min_size=g, max_size=g), min_size=1, max_size=8)
)


def isolated_columns(rows: list[list[int]]) -> set[int]:
    g = len(rows[0])
    return {j for j in range(g) if rank(rows) == rank([*rows, [int(j == k) for k in range(g)]])}


@given(matrices, small_primes)
def test_primes_that_divide_minors_mislead_nobody(rows: list[list[int]], primes: list[int]) -> None:
    assert _isolated(np.array(rows, np.uint8), lambda: iter(primes)) == isolated_columns(rows)


@pytest.mark.parametrize("primes", [[2, 3], [3, 2]])
def test_a_prime_that_lowers_the_rank_does_not_hide_an_isolated_column(primes: list[int]) -> None:
    """The determinant is 2: modulo 2 the rank is 2, and no column isolated."""
    pairs = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], np.uint8)
    assert _isolated(pairs, lambda: iter(primes)) == {0, 1, 2}
    one_more = np.pad(np.vstack([pairs, pairs[0]]), ((0, 0), (0, 1)))  # and neither rank is full
    assert _isolated(one_more, lambda: iter(primes)) == {0, 1, 2}


# The null space is spanned by (1, 1, -2, 1): modulo 2, column 2 has no part in it, and is isolated.
MISLEADING = np.array([[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0]], np.uint8)


@pytest.mark.parametrize("primes", [[2, 3], [3, 2]])
def test_a_prime_of_highest_rank_does_not_isolate_a_column_that_is_not(primes: list[int]) -> None:
    assert not _isolated(MISLEADING, lambda: iter(primes))
    assert not _isolated(np.vstack([MISLEADING, MISLEADING[0]]), lambda: iter(primes))


def test_the_primes_of_the_whole_are_asked_where_those_of_the_rows_in_use_deny() -> None:
    rows = np.zeros((4, 6), np.uint8)
    rows[:3, :4], rows[3, 4:] = MISLEADING, 1
    assert not _isolated(rows, lambda: iter([2, 3, 5]))


def primes_asked(rows: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    asked: list[int] = []

    def primes() -> Iterator[int]:
        for p in _primes():
            asked.append(p)
            yield p

    _isolated(rows, primes)
    return len(asked)


def test_one_prime_is_enough_where_all_are_isolated_or_none_of_independent_sets() -> None:
    rows = (np.random.default_rng(0).random((60, 200)) < 0.9).astype(np.uint8)
    assert primes_asked(rows) == 1
    assert primes_asked(rows.T) == 1


def test_few_primes_are_enough_where_few_sets_isolate_a_client() -> None:
    rows = (np.random.default_rng(0).random((100, 120)) < 0.9).astype(np.uint8)
    rows[50] = rows[20]
    rows[20, 7], rows[50, 7] = 1, 0
    assert _isolated(rows) == {7}
    assert primes_asked(rows) == 2
    assert primes_asked(np.vstack([rows, rows[0]])) > 2


@pytest.mark.parametrize(("d", "g"), [(40, 60), (60, 60), (70, 60)])
@pytest.mark.parametrize("determined", [1, 25])
def test_large_primes_agree_with_the_rational_echelon_form(d: int, g: int, determined: int) -> None:
    """25 columns determined by 25 dense rows, or one by a retry; two equal columns are never determined."""
    rng = np.random.default_rng(d)
    rows = (rng.random((d, g)) < 0.7).astype(np.uint8)
    if determined == 1:
        rows[-1] = rows[0]
        rows[0, 3], rows[-1, 3] = 1, 0
    else:
        rows[:determined, determined:] = 0
    rows[:, -1] = rows[:, -2]
    echelon, _, r = fmpz_mat(rows.tolist()).rref()
    supports = [[j for j in range(g) if echelon[i, j]] for i in range(r)]
    expected = {support[0] for support in supports if len(support) == 1}
    assert len(expected) >= determined
    assert _isolated(rows) == expected


def test_a_rank_and_a_norm_are_exact_where_floats_are_lost() -> None:
    """Coefficients grow like Fibonacci's numbers; all but client 0 come in twos, so that it alone counts."""
    n = 100
    columns = [[k, *range(k + 1, n, 2)] for k in range(n)]
    triangle = [[int(j in row) for j in range(n)] for row in columns]
    assert np.linalg.matrix_rank(np.array(triangle)) < n
    c = [1]
    for j in range(1, n):
        c.append(-sum(c[k] * triangle[k][j] for k in range(j)))
    found = report([{*row, *(n + j for j in row if j)} for row in columns], window=n)
    assert found.alike.clients == found.weights == {0}
    assert found.alike.smallest_norm == math.sqrt(sum(x * x for x in c)) > 1e19


# Arguments, and the edges


def test_an_empty_ledger_reveals_nothing() -> None:
    found = Ledger().report(corrupt={1})
    assert (found.sessions, found.seen, found.window) == (0, 0, WINDOW)
    assert not found.alike.clients
    assert found.alike.smallest_norm is None
    assert found.helper is None
    assert found.smallest_difference is None
    assert not found.weights
    assert found.lines() == ["no session is recorded: there is nothing to combine"]


def test_a_client_first_seen_late_was_in_no_set_before() -> None:
    assert report([{1, 2}, {1, 2, 3}]).alike.clients == {3}


def test_a_set_is_copied_when_it_is_recorded() -> None:
    survivors = {1, 2, 3}
    kept = ledger([survivors, {1, 2}])
    survivors.discard(3)
    assert kept.report().alike.clients == {3}


def test_ids_may_be_any_natural_numbers_in_any_collection() -> None:
    assert report([[10**12, 0, 5], (5, 0)]).alike.clients == {10**12}


@pytest.mark.parametrize("window", [0, -1, True, 2.5, "50"])
def test_a_window_that_is_no_positive_integer_is_refused(window: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"a window of .* sessions is impossible"):
        Ledger(window)


@pytest.mark.parametrize(
    ("survivors", "match"),
    [
        ([], "without survivors"),
        ([1, 2, 1], "named twice"),
        ([1, -2], "-2 is not the id"),
        ([1, "2"], "'2' is not the id"),
        ([2, True], "True is not the id"),
        ([1, 2.0], "2.0 is not the id"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused_and_leaves_no_trace(survivors: Any, match: str) -> None:
    kept = ledger([{1, 2, 3}, {1, 2}])
    before = kept.report()
    with pytest.raises(LocalProtocolError, match=match):
        kept.record(survivors)
    assert kept.report() == before


def test_colluders_that_are_no_ids_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="-1 is not the id"):
        ledger([{1, 2}]).report(corrupt=[-1])


# In words


def test_the_lines_say_what_is_isolated_and_what_is_claimed() -> None:
    told = report([{1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4}], window=2, corrupt={2})
    updates, weights = told.lines()
    assert updates == (
        "updates: no combination of the last 2 of 3 sums isolates one of 3 clients, "
        "even if updates stayed alike"
    )
    assert "follow those of 1 (4) of 3 clients" in weights
    assert "hidden is claimed within one session only" in weights
    assert told.lines(weighed=False) == [updates]


def test_the_lines_give_the_norm_the_difference_and_the_helper() -> None:
    updates, _, helper, weights = report([{1, 2, 3}, {1, 2}]).lines()
    assert "the last 2 of 2 sums isolate 1 (3) of 3 clients if updates stayed alike" in updates
    assert "smallest coefficient norm 1.41 " in updates
    assert updates.endswith("smallest difference of two sets: 1")
    assert helper.startswith("with the help of client 1: 1 (2) more")
    assert "from 2 sums in all follow those of 1 (3) of 3 clients" in weights


def test_the_lines_say_none_and_name_eight_clients_at_most() -> None:
    assert "those of none of 3 clients" in report([{1, 2, 3}]).lines()[-1]
    assert "those of 20 (0, 1, 2, 3, 4, 5, 6, 7, ...) of 20" in report([{u} for u in range(20)]).lines()[-1]
    assert "those of 8 (0, 1, 2, 3, 4, 5, 6, 7) of 8" in report([{u} for u in range(8)]).lines()[-1]


def test_sums_that_share_nobody_are_not_too_near() -> None:
    """Groups of one session: the difference of two tells of nobody what one of them does not."""
    ledger = Ledger()
    for group in ({0, 1}, {2, 3}, {0, 1, 4}):
        ledger.record(group)
    assert ledger.report(apart=5).near == ((1, 3),)
