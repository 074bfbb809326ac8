"""The rule of two sums of like vectors where relays keep it: clients see no sets, and say by tags of their
own which sessions are alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg import (
    Counts,
    LocalProtocolError,
    Masking,
    RemoteProtocolError,
    Roster,
    Split,
    Tampered,
    TooFewClients,
    run,
)
from secagg.alike import MAX_TAGS, OWN_INPUT, TAG_BYTES, Alike, Likeness, Record, in_memory
from secagg.crypto import SigningKey, Tag, digest
from secagg.split.derived import seal_key
from secagg.split.messages import ColumnRequest
from secagg.tagged import Tagged
from secagg.wire import encode, relay_party
from tests.play import identities

N, VICTIM = 10, 3
IDS = range(N)
SPEC = Counts(length=4, maximum=1000)
INPUTS = {u: np.arange(4) * 10 + u for u in IDS}
ROSTER, IDENTITIES = identities(IDS)
REFUSED = "too near to earlier ones of like vectors, of which a client signs two different sets at most"
PRIOR = (Masking.for_cohort(N, SPEC, roster=ROSTER, adversary="active", corrupt=1, dropout=3), "masked-input")


def scheme(adversary: str = "active", **more: Any) -> Split:
    roster = ROSTER if adversary == "active" else None
    return Split.for_cohort(N, SPEC, roster=roster, **{"corrupt": 1, "m_min": 3, **more})


class Cohort:
    """Clients and relays that remember from session to session, and a server that may plan by the rule."""

    def __init__(
        self, adversary: str = "active", likeness: Any = lambda task: OWN_INPUT, **of_relays: Any
    ) -> None:
        self.adversary, self.likeness, self.of_relays = adversary, likeness, of_relays
        self.records: dict[int | None, Record] = {
            u: in_memory() for u in (*IDS, relay_party(0), relay_party(1), None)
        }

    def alike(self, u: int | None, **rule: Any) -> Alike:
        key = SigningKey(bytes(32)) if u is None else IDENTITIES[u].key
        return Alike(self.likeness, self.records[u], key, ROSTER, **rule)

    def tagged(self, j: int, **rule: Any) -> Tagged:
        r = relay_party(j)
        return Tagged(self.records[r], IDENTITIES[r].key, ROSTER, **{**self.of_relays, **rule})

    def sum(
        self, task: bytes, without: set[int] = frozenset(), *, plans: bool = False, **more: Any
    ) -> tuple[frozenset[int], Any]:
        """Who is in the sum, and the sum. plans: the server has the rule too. members: of other columns."""
        new, members = more.pop("new", ()), more.pop("members", None)
        used, lost_in = more.pop("scheme", (scheme(self.adversary), "shares"))

        def asks(round: str, u: int, request: bytes) -> bytes:
            return encode(ColumnRequest(members)) if round == "columns" and members else request

        total = run(
            used,
            INPUTS,
            task=task,
            drop={lost_in: without},
            identities=IDENTITIES,
            alike={u: self.alike(u, new=u in new) for u in (*IDS, *([None] if plans else []))},
            tagged={j: self.tagged(j) for j in range(used.relays)},
            instrument=lambda server: Tampered(server, asks),
        )
        return total.survivors, total.sum[""]


adversaries = pytest.mark.parametrize("adversary", ["active", "semi-honest"])


@adversaries
def test_without_a_rule_two_sessions_give_a_client_away(adversary: str) -> None:
    cohort = Cohort(adversary, likeness=lambda task: None)
    (_, of_all), (_, of_most) = cohort.sum(b"1"), cohort.sum(b"2", {VICTIM})
    assert np.array_equal(of_all - of_most, INPUTS[VICTIM])


@adversaries
@pytest.mark.parametrize("out", [1, 2])
def test_relays_do_not_help_to_a_second_sum_that_is_too_near(adversary: str, out: int) -> None:
    """With A = 1 corrupt two sets differ by three: so that two honest vectors are in the difference."""
    cohort = Cohort(adversary)
    cohort.sum(b"1")
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", set(range(VICTIM, VICTIM + out)))


def test_one_relay_that_keeps_the_rule_is_enough() -> None:
    """The columns of the others alone are noise."""
    for silent in (0, 1):
        cohort = Cohort()
        cohort.sum(b"1")
        cohort.records[relay_party(silent)] = in_memory()
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            cohort.sum(b"2", {VICTIM})


@adversaries
def test_two_sets_that_are_far_enough_apart_are_added_and_no_third(adversary: str) -> None:
    cohort = Cohort(adversary)
    everybody, some = set(IDS), {0, 1, 2}
    assert cohort.sum(b"1")[0] == everybody
    assert cohort.sum(b"2", some)[0] == everybody - some
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"3", {7, 8, 9})
    assert cohort.sum(b"4")[0] == everybody
    assert cohort.sum(b"5", some)[0] == everybody - some


def test_a_relay_may_ask_for_a_larger_difference() -> None:
    cohort = Cohort(difference=5)
    cohort.sum(b"1")
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", {0, 1, 2, 3})
    assert len(cohort.sum(b"3", {0, 1, 2, 3, 4})[0]) == 5


def test_what_counts_is_the_set_that_is_asked_for_in_the_end() -> None:
    """Of sets that were delivered nobody has a sum."""
    cohort = Cohort("semi-honest")
    cohort.sum(b"1")
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"2", members=[u for u in IDS if u != VICTIM])
    assert cohort.sum(b"3")[0] == set(IDS)


def test_one_client_that_says_alike_is_left_out_where_its_own_would_be_given_away() -> None:
    """The others' inputs are new, and it may be corrupt. Of two one is honest, and there is no sum."""
    cohort = Cohort()
    cohort.sum(b"1")
    assert cohort.sum(b"2", {VICTIM - 1}, new=set(IDS) - {VICTIM})[0] == set(IDS) - {VICTIM - 1, VICTIM}
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"3", {VICTIM - 1}, new=set(IDS) - {VICTIM, VICTIM + 1})


def test_what_is_new_is_unlike_what_was() -> None:
    cohort = Cohort()
    cohort.sum(b"1")
    assert cohort.sum(b"2", {VICTIM}, new=set(IDS))[0] == set(IDS) - {VICTIM}
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"3")


# Models


def of_model(models: dict[bytes, Any]) -> Any:
    return lambda task: Likeness("train", models[task])


AT = np.ones(200)
MODELS = {b"at": AT, b"near": AT * 1.005, b"nearer still": AT * 1.009, b"beyond": AT * 1.014, b"far": AT * 2}


def test_sessions_at_near_models_are_alike_and_others_not() -> None:
    cohort = Cohort(likeness=of_model(MODELS))
    cohort.sum(b"at")
    assert cohort.sum(b"far", {VICTIM})[0] == set(IDS) - {VICTIM}
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        cohort.sum(b"near", {VICTIM})


def test_a_session_that_is_alike_two_others_has_the_tags_of_both() -> None:
    """Those are unlike each other, and their sets free of each other; one beside both is free of neither."""
    tags = {}
    for bridge, refused in ((b"near", True), (b"far", False)):
        cohort = Cohort(likeness=of_model(MODELS))
        cohort.sum(b"at")
        cohort.sum(b"beyond", {VICTIM})
        for task in (b"at", b"beyond", bridge):
            kept = cohort.alike(VICTIM - 1).of(task)
            assert kept is not None
            tags[task] = set(kept.tags())
        assert tags[b"at"].isdisjoint(tags[b"beyond"])
        assert (tags[bridge] == tags[b"at"] | tags[b"beyond"]) == refused
        if refused:
            with pytest.raises(RemoteProtocolError, match=REFUSED):
                cohort.sum(bridge, {VICTIM, 0})
        else:
            cohort.sum(bridge, {VICTIM, 0})


def test_a_relay_holds_a_set_against_all_that_are_alike_by_some_tag() -> None:
    a, b, c, d = (bytes([k]) * TAG_BYTES for k in range(4))
    rule = Cohort().tagged(0)
    rule.sum(IDS, [a], 1)
    rule.sum(range(7), [a, b], 1)
    rule.sum(range(5), [c], 1)
    for members, tags in (
        (range(3), [a]),
        (range(3), [b]),  # alike the second, which is alike the first
        (range(3), [d, b]),
        (range(5), [c, b]),  # alike all three
        (range(3), [c]),
    ):
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            rule.sum(members, tags, 1)
    rule.sum(IDS, [b], 1)
    rule.sum(range(2), [c], 1)
    rule.sum(range(3), [d], 1)  # what was refused was not recorded
    kept = size_of(rule.record)
    rule.sum(range(4), [], 1)  # nobody says that it is alike anything
    assert size_of(rule.record) == kept == 6


@pytest.mark.parametrize("rule", [False, True])
def test_of_three_sums_in_a_row_relays_do_not_help_to_the_third(rule: bool) -> None:
    """No client is in more than two, and any two differ by nine clients or more."""
    ids = range(19)
    roster, identities_of = identities(ids)
    keys = {u: identity.key for u, identity in identities_of.items()}
    alike = {u: Alike(lambda task: OWN_INPUT, in_memory(), keys[u], roster) for u in ids}
    tagged = {j: Tagged(in_memory(), keys[relay_party(j)], roster) for j in range(2)}

    def summed(cohort: list[int], task: bytes) -> Any:
        return run(
            Split.for_cohort(len(cohort), SPEC, roster=roster, corrupt=1, m_min=3),
            {u: np.arange(4) * 10 + u for u in cohort},
            task=task,
            identities={u: identities_of[u] for u in (*cohort, relay_party(0), relay_party(1))},
            alike={u: alike[u] for u in cohort},
            tagged=tagged if rule else {},
        ).sum[""]

    some, others = list(range(1, 10)), list(range(10, 19))
    first, second = summed([0, *some], b"1"), summed([*some, *others], b"2")
    if rule:
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            summed(others, b"3")
    else:  # the control: client 0 by itself
        assert (first - second + summed(others, b"3")).tolist() == [0, 10, 20, 30]


def test_a_client_that_says_alike_of_all_is_left_out_and_ends_no_session() -> None:
    """Or one that always gives the same tag would end every session but two. A = 1."""
    tag, cohort = bytes(TAG_BYTES), Cohort()
    for task, out in ((b"1", {0}), (b"2", {1}), (b"3", {2})):
        liar = cohort.records[VICTIM] = in_memory()
        cohort.alike(VICTIM).of(b"").tags(lambda count: tag)  # type: ignore[union-attr]
        everybody = set(IDS) - {VICTIM}
        assert cohort.sum(task, out, new=everybody)[0] - {VICTIM} == everybody - out
        assert size_of(liar) == 1
    assert cohort.sum(b"4", new=everybody)[0] == everybody


def test_a_record_does_not_grow_by_what_is_asked_again() -> None:
    cohort = Cohort()
    sizes = []
    for task in (b"1", b"2", b"3"):
        cohort.sum(task)
        sizes.append([size_of(cohort.records[u]) for u in (VICTIM, relay_party(0))])
    assert sizes == [[1, 1]] * 3


def size_of(record: Record) -> int:
    seen: list[int] = []
    record(lambda kept: seen.append(len(kept)))
    return seen[0]


def test_a_tag_is_random_and_another_for_each_client() -> None:
    cohort = Cohort()
    tags = {u: cohort.alike(u).of(b"1").tags() for u in IDS}  # type: ignore[union-attr]
    assert {len(own) for own in tags.values()} == {1}
    assert len(set(tags.values())) == N
    assert {len(tag) for own in tags.values() for tag in own} == {TAG_BYTES}


def test_a_session_between_too_many_kinds_is_refused() -> None:
    """Each further tag would be a class that relays have to look through, and a client that has so many moves
    in steps that are too small to be told apart.
    """
    rule = Cohort().alike(VICTIM)
    for count in range(1, MAX_TAGS + 2):
        own = Cohort().alike(VICTIM)  # of the same key, with a record of its own: another tag
        own.of(b"").tags()  # type: ignore[union-attr]
        own.record(lambda kept: rule.record(lambda _, one=kept[0]: one))
        if count <= MAX_TAGS:
            assert len(rule.of(b"").tags()) == count  # type: ignore[union-attr]
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        rule.of(b"").tags()  # type: ignore[union-attr]


# Beside other schemes


def test_who_has_seen_to_a_set_itself_shares_nothing_of_like_vectors_and_the_other_way_round() -> None:
    """A relay knows nothing of that set, and the client nothing of theirs."""
    for first, second in ((PRIOR, None), (None, PRIOR)):
        cohort = Cohort()
        cohort.sum(b"1", **({"scheme": first} if first else {}))
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            cohort.sum(b"2", **({"scheme": second} if second else {}))


def test_nor_who_has_decrypted() -> None:
    cohort = Cohort()
    kept = cohort.alike(VICTIM).of(b"1")
    assert kept is not None
    kept.once()
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        kept.tags()
    other = Cohort().alike(VICTIM).of(b"1")
    assert other is not None
    other.tags()
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        other.once()


def test_nor_does_a_masked_vector_leave_once_relays_were_told() -> None:
    """Not even to be in a sum that only others sign: beside that of the relays it would tell."""
    told = Cohort().alike(VICTIM).of(b"1")
    assert told is not None
    told.tags()
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        told.leave()


def test_nor_who_has_told_other_relays() -> None:
    """The honest one of those may be gone, and the honest one of these has no record of what it added."""
    others = {**ROSTER.relays, 1: SigningKey(bytes(32)).public}
    for relays, refused in ((others, True), ({0: ROSTER.relays[0]}, True), (ROSTER.relays, False)):
        cohort, later = Cohort(), Roster(bytes(32), {0: ROSTER.keys[0]}, relays)
        told = cohort.alike(VICTIM).of(b"1").tags()  # type: ignore[union-attr]
        rule = replace(cohort.alike(VICTIM), roster=later)
        if refused:
            with pytest.raises(RemoteProtocolError, match=REFUSED):
                rule.of(b"2").tags()  # type: ignore[union-attr]
        else:
            assert rule.of(b"2").tags() == told  # type: ignore[union-attr]
        assert replace(rule, new=True).of(b"2").tags() != told  # type: ignore[union-attr]


def test_nor_twice_who_insists_on_a_difference_that_relays_do_not_know() -> None:
    rule = Cohort().alike(VICTIM, difference=5)
    assert rule.of(b"1").tags()  # type: ignore[union-attr]
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        rule.of(b"2").tags()  # type: ignore[union-attr]


# A server that plans


@adversaries
def test_a_server_with_the_rule_leaves_out_as_few_as_it_must(adversary: str) -> None:
    """One is lost: two more make a difference of three."""
    cohort = Cohort(adversary)
    cohort.sum(b"1", plans=True)
    survivors, total = cohort.sum(b"2", {VICTIM}, plans=True)
    assert survivors == set(IDS) - {VICTIM, 0, 1}
    assert total.tolist() == sum(INPUTS[u] for u in survivors).tolist()


def test_who_cannot_be_used_may_cost_others_their_place_too(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = Cohort()
    cohort.sum(b"1", plans=True)
    monkeypatch.setattr(
        "secagg.split.client.seal_key",
        lambda secret, sid, u, j, c_pk: (
            digest(Tag.SPLIT_SHARE, secret) if u == VICTIM else seal_key(secret, sid, u, j, c_pk)
        ),
    )
    assert cohort.sum(b"2", plans=True)[0] == set(IDS) - {VICTIM, 0, 1}


def test_a_server_that_has_to_leave_out_too_many_says_why() -> None:
    cohort = Cohort()
    tight = (scheme(m_min=8), "shares")
    cohort.sum(b"1", plans=True, scheme=tight)
    with pytest.raises(TooFewClients, match=r"7 clients left in round shares \(2 more left out: .* 8 need"):
        cohort.sum(b"2", {VICTIM}, plans=True, scheme=tight)


def test_where_relays_would_add_none_it_says_so() -> None:
    cohort = Cohort()
    cohort.sum(b"1", plans=True)
    cohort.sum(b"2", {0, 1, 2}, plans=True)
    with pytest.raises(LocalProtocolError, match="relays have added other sums of like vectors, and"):
        cohort.sum(b"3", {7, 8, 9}, plans=True)


def test_the_record_of_a_relay_is_sealed_and_refused_where_it_is_damaged() -> None:
    cohort = Cohort()
    cohort.sum(b"1")
    other = Tagged(cohort.records[relay_party(0)], SigningKey(bytes(32)), ROSTER)
    with pytest.raises(LocalProtocolError, match="is damaged, or another key's"):
        other.sum(IDS, [bytes(TAG_BYTES)], 1)


def test_a_relay_tells_clients_apart_by_ids_and_keys() -> None:
    """Who has a new key, or another's id, does not count twice."""
    tag, record, key = bytes(TAG_BYTES), in_memory(), SigningKey(bytes(32))
    Tagged(record, key, ROSTER).sum(range(5), [tag], 1)
    renewed = Roster(bytes(32), {**ROSTER.keys, 0: ROSTER.keys[8], 1: ROSTER.keys[9]})
    swapped = Roster(bytes(32), {u: ROSTER.keys[(u + 1) % 5] for u in range(5)})
    for roster in (renewed, swapped):
        with pytest.raises(RemoteProtocolError, match=REFUSED):
            Tagged(record, key, roster).sum(range(4), [tag], 1)
    with pytest.raises(RemoteProtocolError, match=REFUSED):
        Tagged(record, key, None).sum(range(4), [tag], 1)
