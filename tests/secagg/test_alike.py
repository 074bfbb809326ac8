"""Two sums of like vectors: what they give away, and the rule of two different sets against it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import (
    CKKS,
    Counts,
    Decoys,
    Identity,
    Ledger,
    LocalProtocolError,
    Masking,
    Recorded,
    RemoteProtocolError,
    Roster,
    SecAggError,
    ServerSession,
    Tampered,
    TooFewClients,
    run,
    throwaway_identities,
)
from secagg.alike import (
    OWN_INPUT,
    Alike,
    Class,
    Likeness,
    Record,
    in_memory,
    may_be_signed,
)
from secagg.crypto import SigningKey
from secagg.errors import ClientId
from secagg.masking.messages import ConsistencyCheckRequest, UnmaskingRequest
from secagg.planning import Plan
from secagg.sketch import SKETCH, is_near, sketch
from secagg.wire import encode
from tests.play import among

N, VICTIM = 10, 3
SPEC = Counts(length=4, maximum=1000)
INPUTS = {u: np.arange(4) * 10 + u for u in range(N)}
ROSTER, IDENTITIES = throwaway_identities(range(N))
REFUSED = "too near to earlier ones of like vectors"


def masking(adversary: str, **more: Any) -> Masking:
    roster = ROSTER if adversary == "active" else None
    return Masking.for_cohort(N, SPEC, adversary=adversary, roster=roster, corrupt=1, **more)


class Cohort:
    """Clients that remember from session to session, and a server of one's choice."""

    def __init__(
        self, adversary: str = "active", likeness: Any = lambda task: OWN_INPUT, **rule: Any
    ) -> None:
        self.adversary, self.likeness, self.rule = adversary, likeness, rule
        self.records: dict[ClientId | None, Record] = {u: in_memory() for u in (*range(N), None)}
        self.server_key = SigningKey(bytes(range(32)))

    def alike(self, u: ClientId | None, **rule: Any) -> Alike:
        key = self.server_key if u is None else IDENTITIES[u].key
        return Alike(self.likeness, self.records[u], key, ROSTER, **self.rule | rule)

    def sum(
        self, task: bytes, without: set[int] = frozenset(), *, plans: bool = False, **more: Any
    ) -> tuple[frozenset[int], np.ndarray[Any, Any]]:
        """Who is in the sum, and the sum. plans: the server has the rule too. server: put around it."""
        new, lost_in = more.pop("new", False), more.pop("lost_in", "masked-input")
        server = more.pop("server", lambda session: session)
        total = run(
            masking(self.adversary, **more),
            INPUTS,
            task=task,
            drop={lost_in: without},
            identities=IDENTITIES,
            alike={u: self.alike(u, new=new) for u in (*range(N), *([None] if plans else []))},
            instrument=server,
        )
        return total.survivors, total.sum[""]


adversaries = pytest.mark.parametrize("adversary", ["active", "semi-honest"])


# The attack


@pytest.mark.parametrize("rule", [False, True])
def test_small_parts_of_a_roster_are_summed_once_or_three_in_a_row_give_a_client_away(rule: bool) -> None:
    """No client is in more than two of them, and any two differ by nine clients or more."""
    ids = range(19)
    roster, identities = throwaway_identities(ids)
    alike = {u: Alike(lambda task: OWN_INPUT, in_memory(), identities[u].key, roster) for u in ids}

    def summed(cohort: list[int], task: bytes) -> Any:
        return run(
            Masking.for_cohort(len(cohort), SPEC, roster=roster, corrupt=1),
            {u: np.arange(4) * 10 + u for u in cohort},
            task=task,
            identities={u: identities[u] for u in cohort},
            alike={u: alike[u] for u in cohort if rule},
        ).sum[""]

    some, others = list(range(1, 10)), list(range(10, 19))
    first = summed([0, *some], b"1")
    assert (summed([0, *some], b"1 again") == first).all()
    if rule:
        with pytest.raises(SecAggError):
            summed([*some, *others], b"2")
    else:  # the control: client 0 by itself
        assert (first - summed([*some, *others], b"2") + summed(others, b"3")).tolist() == [0, 10, 20, 30]


def test_nor_is_a_small_part_summed_beside_a_large_one_and_a_server_that_plans_knows() -> None:
    """Else two small parts and a large one would do. Small is 6 of ten, with A = 1: 2 x 6 = 10 + 1 + 1."""
    for first, second in ((7, 6), (6, 7)):
        rule = Cohort().alike(VICTIM)
        rule.of(b"1", (first, 1, None)).sign(range(N), 1, ())  # type: ignore[union-attr]
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            rule.of(b"2", (second, 1, None)).sign(range(7), 1, ())  # type: ignore[union-attr]
    planned = Cohort().alike(None)
    for m_min, most in ((7, set(range(7))), (6, None)):
        kept = planned.of(b"1", (m_min, 1, None))
        assert kept is not None
        kept.sign(range(N), 1, ())
        assert Plan(kept, [frozenset(range(N))], [kept.earlier(())], 6, 1).summed(range(7), 6, "") == most


@adversaries
def test_without_a_rule_two_sessions_give_a_client_away(adversary: str) -> None:
    cohort = Cohort(adversary, likeness=lambda task: None)
    (_, of_all), (_, of_most) = cohort.sum(b"1"), cohort.sum(b"2", {VICTIM})
    assert np.array_equal(of_all - of_most, INPUTS[VICTIM])


@adversaries
@pytest.mark.parametrize("out", [1, 2])
def test_clients_do_not_help_to_a_second_sum_that_is_too_near(adversary: str, out: int) -> None:
    """With A = 1 corrupt two sets differ by three: so that two honest vectors are in the difference."""
    cohort = Cohort(adversary)
    cohort.sum(b"1")
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", set(range(VICTIM, VICTIM + out)))


@adversaries
def test_two_sets_that_are_far_enough_apart_are_signed_and_no_third(adversary: str) -> None:
    cohort = Cohort(adversary)
    cohort.sum(b"1")
    for again in range(3):  # equal ones any number of times
        assert cohort.sum(b"2%d" % again, {0, 1, 2})[0] == set(range(3, N))
        assert cohort.sum(b"1%d" % again)[0] == set(range(N))
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"3", {7, 8, 9})


def test_a_policy_may_ask_for_a_larger_difference() -> None:
    cohort = Cohort(difference=4)
    cohort.sum(b"1")
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", {0, 1, 2})


def test_nor_do_batches_that_are_smaller_get_round_it() -> None:
    cohort = Cohort(difference=4)
    cohort.sum(b"1", {0}, batch=3, dropout=3)
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", batch=3)


def test_what_is_new_is_unlike_what_was() -> None:
    cohort = Cohort()
    cohort.sum(b"1")
    assert cohort.sum(b"2", {VICTIM}, new=True)[0] == set(range(N)) - {VICTIM}
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"3")


def sum_by(
    cohort: Cohort, roster: Roster, identities: Any, inputs: Any, task: bytes, without: set[int]
) -> Any:
    scheme = Masking.for_cohort(N, SPEC, adversary="active", roster=roster, corrupt=1)
    alike = {u: Alike(cohort.likeness, cohort.records[u], identities[u].key, roster) for u in range(N)}
    return run(
        scheme, inputs, task=task, drop={"masked-input": without}, identities=identities, alike=alike
    ).sum[""]


def test_who_has_a_new_key_does_not_count_twice() -> None:
    """Else its old key, its new one and the victim would be the three by which two sets differ."""
    cohort, (new_one, new) = Cohort(), (7, SigningKey(bytes(32)))
    cohort.sum(b"1")
    roster = Roster(bytes(32), {**ROSTER.keys, new_one: new.public})
    keys = {u: new if u == new_one else IDENTITIES[u].key for u in range(N)}
    cohort.records[new_one] = in_memory()  # of a new key
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        sum_by(cohort, roster, {u: Identity(u, roster, keys[u]) for u in keys}, INPUTS, b"2", {VICTIM})


def test_who_has_anothers_id_is_still_the_same() -> None:
    """By ids the two sets differ by four clients, by keys they do by two."""
    cohort = Cohort()
    cohort.sum(b"1", {8, 9})
    moved = {u: (u - VICTIM) % N for u in range(N)}  # all have another's id
    roster = Roster(bytes(32), {moved[u]: key for u, key in ROSTER.keys.items()})
    identities = {moved[u]: Identity(moved[u], roster, IDENTITIES[u].key) for u in range(N)}
    cohort.records = {moved[u]: cohort.records[u] for u in range(N)}
    inputs = {moved[u]: INPUTS[u] for u in range(N)}
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        sum_by(cohort, roster, identities, inputs, b"2", {moved[VICTIM], moved[9]})


@pytest.mark.parametrize("scheme", [CKKS.for_cohort(N, SPEC), Decoys.for_cohort(N, SPEC, candidates=2)])
def test_where_clients_decrypt_alone_they_contribute_once_to_like_sessions(scheme: Any) -> None:
    cohort, inputs = Cohort(), {u: among(scheme, x) for u, x in INPUTS.items()}
    alike = {u: cohort.alike(u) for u in range(N)}
    run(scheme, inputs, task=b"1", alike=alike)
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        run(scheme, inputs, task=b"2", alike=alike)
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"3")  # nor to a masked one, whatever its set


def test_what_stands_on_record_of_a_sum_of_coins_is_no_reason_against_its_own_steps() -> None:
    """Taken again by a server that was set back; of any other session it is one, before a vector leaves."""
    cohort = Cohort()
    rule = cohort.alike(None)

    def like(session: bytes, m_min: int = 7) -> Class:
        begun = rule.of(b"", (m_min, 1, None))
        assert begun is not None
        return replace(begun, session=session)

    for _ in range(2):
        like(b"one").leave()
        like(b"one").sign(range(N), 1, (), alone=True)
    assert len(kept(cohort.records[None])) == 2  # that vectors left, and the sum
    for refused in (
        lambda: like(b"two").sign(range(N), 1, (), alone=True),
        lambda: like(b"two", 6).leave(),
        lambda: like(b"two").once(),
    ):
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            refused()


def test_sets_of_two_cuts_are_not_signed_however_far_apart() -> None:
    """Also where nothing has left before."""
    rule = Cohort().alike(0)
    like = rule.of(b"", (7, 1, None))
    assert like is not None
    one, other = ([frozenset(range(5)), frozenset(range(5, N))], [frozenset(range(0, N, 2))])
    like.sign(range(5), 1, (), cut=one)
    for cut in (other, ()):
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            like.sign([0, 6, 8, 4], 1, (), cut=cut)
    like.sign(range(5, N), 1, (), cut=one)


def test_sums_by_whole_batches_of_one_partition_are_signed_whatever_the_sets() -> None:
    cohort = Cohort()
    for first in (0, 3, 4):
        cohort.sum(b"of threes %d" % first, {first}, batch=3, dropout=3)
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"of fives", batch=5)
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"of all")


# The server that plans


@adversaries
def test_a_server_with_the_rule_leaves_out_as_few_as_it_must(adversary: str) -> None:
    cohort = Cohort(adversary)
    assert cohort.sum(b"1", plans=True)[0] == set(range(N))
    survivors, total = cohort.sum(b"2", {VICTIM}, plans=True)
    assert len(survivors) == N - 3
    assert VICTIM not in survivors
    assert np.array_equal(total, sum(INPUTS[u] for u in survivors))
    # The two are signed. Whoever is there, it is one of them again.
    assert cohort.sum(b"3", plans=True)[0] == set(range(N))
    assert cohort.sum(b"4", {VICTIM}, plans=True)[0] == survivors


def test_a_server_with_the_rule_leaves_out_who_was_not_in_the_earlier_sum() -> None:
    cohort = Cohort()
    assert cohort.sum(b"1", {VICTIM}, plans=True)[0] == set(range(N)) - {VICTIM}
    survivors, total = cohort.sum(b"2", plans=True)
    assert survivors == set(range(N)) - {VICTIM}
    assert np.array_equal(total, sum(INPUTS[u] for u in survivors))


@pytest.mark.parametrize("lost_in", ["share-keys", "masked-input"])
def test_a_server_that_has_to_leave_out_too_many_says_why(lost_in: str) -> None:
    """As soon as it is sure, so that nobody uploads in vain."""
    cohort, seen = Cohort(), list[Recorded]()

    def recorded(session: ServerSession) -> ServerSession:
        seen.append(Recorded(session))
        return seen[-1]

    cohort.sum(b"1", plans=True, threshold=8)
    words = r"7 clients left in round masked-input \(2 more left out: with .*, say new=True, .*\), 8 needed"
    with pytest.raises(TooFewClients, match=words):
        cohort.sum(b"2", {VICTIM}, plans=True, lost_in=lost_in, threshold=8, server=recorded)
    uploaded = {u for round, u, _ in seen[0].view.received if round == "masked-input"}
    assert uploaded == (set() if lost_in == "share-keys" else set(range(N)) - {VICTIM})


def test_where_too_few_are_there_at_all_that_is_what_is_said() -> None:
    cohort = Cohort()
    cohort.sum(b"1", plans=True, threshold=N, dropout=0)
    with pytest.raises(TooFewClients, match=f"^{N - 1} clients left in round masked-input, {N} needed: no"):
        cohort.sum(b"2", {VICTIM}, plans=True, threshold=N, dropout=0)


def test_a_server_whose_clients_have_signed_twice_says_that_no_other_sum_can_be_had() -> None:
    cohort = Cohort()
    cohort.sum(b"1", plans=True)
    cohort.sum(b"2", {0, 1, 2}, plans=True)
    with pytest.raises(LocalProtocolError, match="would sign none that those who are left can give"):
        cohort.sum(b"3", {0, 9}, plans=True)
    assert cohort.sum(b"4", {0}, plans=True, new=True)[0] == set(range(1, N))


def test_a_server_that_sums_by_batches_leaves_out_whole_ones() -> None:
    cohort = Cohort()
    assert cohort.sum(b"1", {VICTIM}, plans=True)[0] == set(range(N)) - {VICTIM}
    survivors, total = cohort.sum(b"2", plans=True, batch=3, dropout=3)
    assert survivors == set(range(3, N))
    assert np.array_equal(total, sum(INPUTS[u] for u in survivors))


# Why two sets, and why this likeness


def test_four_sets_that_differ_pairwise_isolate_a_client() -> None:
    """{0, e, f} for every pair (e, f) of three groups e, less everybody's: e_0 is half of a sum of sums."""
    a, b, c = ({3 * i + 1, 3 * i + 2, 3 * i + 3} for i in range(3))
    sets = [frozenset({0} | a | b), frozenset({0} | b | c), frozenset({0} | a | c), frozenset(a | b | c)]
    assert all(len(x ^ y) >= 4 for x, y in combinations(sets, 2))
    ledger = Ledger()
    for some in sets:
        ledger.record(some)
    assert ledger.report().alike.clients == {0}
    assert may_be_signed(sets[:1], sets[1], 4)
    assert not any(may_be_signed(sets[:2], some, 4) for some in sets[2:])


def refused(clients: int, dropout: float, window: int, rng: np.random.Generator) -> int:
    """Of a hundred honest rounds with random dropouts, those that a client would refuse for which the last
    `window` rounds are alike.
    """
    count, signed = 0, list[tuple[int, frozenset[int]]]()
    for round in range(100):
        survivors = frozenset(np.flatnonzero(rng.random(clients) >= dropout).tolist())
        near = {some for when, some in signed if round - when <= window}
        if may_be_signed(near, survivors, clients // 10 + 2):
            signed.append((round, survivors))
        else:
            count += 1
    return count


def test_a_rule_that_takes_the_last_honest_models_for_alike_refuses_honest_rounds() -> None:
    """Why likeness is so narrow. With 5 to 10 % dropouts, a rule that counts the round before refuses 16 and
    more of 100 rounds, one that counts all rounds up to 98.
    """
    rng = np.random.default_rng(0)
    settings = [(clients, dropout) for clients in (8, 10, 20) for dropout in (0.05, 0.1)]
    assert min(refused(*setting, 1, rng) for setting in settings) >= 16
    assert max(refused(*setting, 100, rng) for setting in settings) >= 96


@given(st.floats(-4, 0), st.integers(0, 2**32 - 1))
def test_models_are_alike_up_to_a_hundredth(log_distance: float, seed: int) -> None:
    """By sketches, so within some percent of it."""
    distance = 10**log_distance
    rng = np.random.default_rng(seed)
    model, away = rng.standard_normal(3000), rng.standard_normal(3000)
    other = model + distance * np.linalg.norm(model) * away / np.linalg.norm(away)
    likeness = {b"one": Likeness("train", model), b"other": Likeness("train", other)}
    cohort = Cohort(likeness=likeness.__getitem__)
    one, two = cohort.alike(0).of(b"one"), cohort.alike(0).of(b"other")
    assert one is not None
    assert two is not None
    one.sign(range(N), 1, [])
    found = two.earlier([])
    if distance < 0.008:
        assert found
    if distance > 0.0125:
        assert not found


def test_models_of_two_sizes_two_kinds_or_none_are_unlike() -> None:
    model = np.ones(50)
    likeness = {
        b"1": Likeness("train", model),
        b"2": Likeness("train", np.ones(51)),
        b"3": Likeness("other", model),
        b"4": Likeness("train"),
    }
    cohort = Cohort(likeness=likeness.__getitem__)
    for task in likeness:
        begun = cohort.alike(0).of(task)
        assert begun is not None
        assert begun.earlier([]) == []
        begun.sign(range(N), 1, [])


def test_who_takes_all_of_a_kind_for_alike_looks_at_no_model_of_any_time() -> None:
    """A model can be disguised; where it is not looked at, it need not be recognised. What was signed while
    it still was counts too, and what is signed now counts for who looks again.
    """
    one, other = np.ones(50), -np.ones(50)
    likeness = {
        b"1": Likeness("training", one),
        b"2": Likeness("training", other, whatever=True),
        b"3": Likeness("other", other, whatever=True),
        b"4": Likeness("training", other),
        b"5": Likeness("training", one),
    }
    cohort = Cohort(likeness=likeness.__getitem__)
    cohort.sum(b"1")
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", {VICTIM})
    assert cohort.sum(b"2", {0, 1, 2})[0] == set(range(3, N))
    assert cohort.sum(b"3", {VICTIM})[0] == set(range(N)) - {VICTIM}
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"4", {0})
    assert cohort.sum(b"5", {7, 8, 9})[0] == set(range(7))  # unlike all but the first


def test_where_only_one_has_a_model_they_are_unlike() -> None:
    made = sketch(np.ones(3), bytes(32)).tobytes()
    assert is_near(b"", b"")
    assert not is_near(b"", made)
    assert not is_near(made, b"")


def test_a_sketch_is_of_the_key_and_forgives_what_is_not_finite() -> None:
    model = np.array([1.0, np.inf, np.nan, -np.inf, 2.0])
    a, b = sketch(model, bytes(32)), sketch(model, b"1" + bytes(31))
    assert np.isfinite(a).all()
    assert np.isclose(np.linalg.norm(a), np.sqrt(5))
    assert not np.array_equal(a, b)


def test_a_sketch_is_as_long_as_its_model_wherever_that_differs_from_nothing() -> None:
    """Within some percent: numbers that are added to one another come with either sign."""
    one, last = np.ones(10**5), np.zeros(10**6)
    last[-1] = 1
    assert np.isclose(np.linalg.norm(sketch(one, bytes(32))), np.sqrt(10**5), rtol=0.2)
    assert np.linalg.norm(sketch(last, bytes(32))) == 1


def test_near_is_a_share_of_the_longer_one_whichever_comes_first() -> None:
    one = np.ones(SKETCH, "<f4")
    for factor, near in ((1.01005, True), (1.0103, False)):
        pair = [one.tobytes(), (one * factor).astype("<f4").tobytes()]
        assert is_near(*pair) is is_near(*pair[::-1]) is near


def test_a_model_too_large_for_a_sketch_is_still_like_itself() -> None:
    huge = np.full(10_000, np.finfo(np.float32).max)
    cohort = Cohort(likeness=lambda task: Likeness("training", huge))
    cohort.sum(b"1")
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", {VICTIM})


# The record


def kept(record: Record) -> list[bytes]:
    found: list[bytes] = []

    def look(entries: Any) -> None:
        found.extend(entries)

    record(look)
    return found


def test_the_record_is_sealed_and_a_damaged_one_or_another_keys_is_refused() -> None:
    cohort = Cohort()
    cohort.sum(b"1")
    left, entry = kept(cohort.records[0])
    assert all(key not in left + entry for key in ROSTER.keys.values())
    with pytest.raises(LocalProtocolError, match="damaged, or another key's"):
        cohort.alike(0).__class__(cohort.likeness, cohort.records[0], IDENTITIES[1].key, ROSTER).of(
            b""
        ).earlier([])


def test_what_is_refused_is_not_on_record_and_what_failed_later_is() -> None:
    cohort = Cohort()
    cohort.sum(b"1")
    with pytest.raises(SecAggError):
        cohort.sum(b"2", {VICTIM})
    assert [len(kept(cohort.records[u])) for u in range(N)] == [2] * N  # that vectors left, and the set


@adversaries
def test_a_set_that_is_no_whole_batches_is_refused_before_it_is_on_record(adversary: str) -> None:
    """Else a server could use up the two that a client signs with sets that it would sign in no case."""
    request = {
        "consistency-check": encode(ConsistencyCheckRequest(sorted(set(range(N)) - {N - 1}))),
        "unmasking": encode(UnmaskingRequest([N - 1])),
    }
    cohort = Cohort(adversary)
    with pytest.raises(RemoteProtocolError, match="the server sums a part of a batch"):
        cohort.sum(
            b"1",
            batch=5,
            dropout=1,
            server=lambda session: Tampered(session, lambda round, u, said: request.get(round, said)),
        )
    assert [len(kept(cohort.records[u])) for u in range(N)] == [1] * N  # that vectors left


def test_equal_sums_however_many_are_recorded_once() -> None:
    cohort = Cohort()
    for again in range(3):
        cohort.sum(b"%d" % again)
    assert [len(kept(cohort.records[u])) for u in range(N)] == [2] * N


def test_an_identity_is_needed_of_just_one_party() -> None:
    """What a rule holds is neither shown nor pickled."""
    identity: Identity = IDENTITIES[0]
    rule = Alike(lambda task: OWN_INPUT, in_memory(), identity.key)
    assert "SigningKey" not in repr(rule)
    with pytest.raises(TypeError, match="never pickled"):
        rule.__reduce_ex__(4)
