"""A client that insists on one cut: of any vectors, alike or not, it is summed in the groups it was first cut
into, under a name of its own choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import Counts, LocalProtocolError, Masking, Policy, RemoteProtocolError
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.crypto import SigningKey
from secagg.schemes import accept
from tests.play import Session, identities
from tests.secagg.suspended import Suspended
from transport.journal import SignedSets

IDS = range(12)
SPEC = Counts(length=2, maximum=9)
ANEW = "cuts the cohort otherwise than before, and this client insists on one cut"
of_all = partial(Masking.for_cohort, 12, SPEC, corrupt=1, dropout=2)
both = pytest.mark.parametrize("adversary", ["active", "semi-honest"])


def grouped(adversary: Any, groups: int = 2, **more: Any) -> Masking:
    roster = identities(IDS)[0] if adversary == "active" else None
    return of_all(adversary=adversary, roster=roster, groups=groups, cohort=IDS, **more)


def insisting(name: str | None = "june", *, record: Any = None, like: bool = False) -> Alike:
    """Client 0's rule: its vectors come out alike, or not."""
    likeness = (lambda task: OWN_INPUT) if like else (lambda task: None)
    return Alike(likeness, record or in_memory(), SigningKey(bytes(32)), identities(IDS)[0], one_cut=name)


def session(
    scheme: Masking,
    rule: Alike | None,
    *,
    trained: list[bytes] | None = None,
    once: Callable[[bytes], None] | None = None,
    drop: Mapping[str, set[int]] | None = None,
    task: bytes = b"1",
    victim: Callable[..., Any] | None = None,
) -> Session:
    """Client 0 has the rule, and may refuse. trained: the tasks for which its vectors were asked."""
    roster, known = identities(IDS) if scheme.adversary == "active" else (None, {})

    def vectors(task: bytes) -> Any:
        if trained is not None:
            trained.append(task)
        return [1, 2]

    make = victim or scheme.client
    clients: dict[int, Any] = {u: scheme.client(u, lambda task: [1, 2], identity=known.get(u)) for u in IDS}
    clients[0] = make(0, vectors, identity=known.get(0), alike=rule, once=once)
    return Session(scheme.server(IDS, task, roster=roster), clients, drop=drop, forgiven=[0])


def died(play: Session) -> str:
    return str(play.died.get(0, ""))


@both
def test_groups_that_are_drawn_anew_are_refused_before_anything_is_trained(adversary: str) -> None:
    rule, trained = insisting(), list[bytes]()
    first = session(grouped(adversary, cut=bytes(32)), rule).finish()
    for cut in ({}, {"cut": b"1" * 32}):
        play = session(grouped(adversary, **cut), rule, trained=trained).to("done")
        assert ANEW in died(play)
        assert play.server.result.survivors == set(IDS) - {0}
    assert trained == []
    again = grouped(adversary, cut=first.cut)
    assert session(again, rule, drop={"masked-input": {5}}).finish().survivors == set(IDS) - {5}


def test_what_is_yet_to_be_drawn_is_no_cut_that_stands_on_record() -> None:
    """Whichever it is: one that an empty seed would draw, too."""
    scheme, rule, trained = grouped("semi-honest"), insisting(), list[bytes]()
    rule.keep_to(scheme.sums.cut(b"", ()), leaving=True)
    assert ANEW in died(session(scheme, rule, trained=trained).to("done"))
    assert trained == []


@both
def test_without_it_a_client_takes_each_cut_of_what_does_not_come_out_alike(adversary: str) -> None:
    """The control: what a server that wants to learns."""
    rule = insisting(None)
    cuts = [session(grouped(adversary), rule, task=b"%d" % i).finish().cut for i in range(2)]
    assert cuts[0] != cuts[1]


def test_a_sum_of_all_is_another_cut_and_so_are_groups_after_it() -> None:
    plans = [grouped("semi-honest"), of_all(adversary="semi-honest")]
    for first, second in (plans, plans[::-1]):
        rule = insisting()
        session(first, rule).finish()
        assert ANEW in died(session(second, rule).to("done"))
        assert died(session(second, insisting("july", record=rule.record)).to("done")) == ""


def test_another_run_has_another_name_and_the_first_is_kept_beside_it() -> None:
    record = in_memory()
    cut = session(grouped("semi-honest"), insisting(record=record)).finish().cut
    session(grouped("semi-honest"), insisting("july", record=record)).finish()
    assert died(session(grouped("semi-honest", cut=cut), insisting(record=record)).to("done")) == ""
    assert ANEW in died(session(grouped("semi-honest"), insisting("july", record=record)).to("done"))


def test_of_two_sessions_at_once_whose_groups_are_yet_to_be_drawn_one_gets_a_vector() -> None:
    """Both were begun when nothing stood on record, which is looked at again before the vector leaves."""
    rule, contexts = insisting(), list[bytes]()
    # Two halves of twelve are now and then the same.
    schemes = [grouped("active", groups) for groups in (2, 3)]
    plays = [session(scheme, rule, once=contexts.append) for scheme in schemes]
    for play in plays:
        play.to("masked-input")
    assert plays[0].server._cut != plays[1].server._cut
    for play in plays:
        play.answer()
    assert ["" if died(play) == "" else ANEW in died(play) for play in plays] == ["", True]
    assert 0 not in plays[1].answers
    assert len(contexts) == 1


def test_what_cannot_be_recorded_does_not_leave() -> None:
    kept = in_memory()

    def full(decide: Any) -> None:
        kept(lambda entries: None if (new := decide(entries)) is None else fails(new))

    def fails(entry: bytes) -> bytes:
        raise OSError("the disk is full")

    play = session(grouped("semi-honest"), insisting(record=full)).to("masked-input")
    request = play.requests[0]
    with pytest.raises(OSError, match="full"):
        play.answer()
    with pytest.raises(LocalProtocolError, match="over"):
        play.clients[0].receive(request)


def test_nothing_is_recorded_before_a_vector_leaves() -> None:
    """A session that comes to nothing before that may be drawn anew."""
    rule = insisting()
    session(grouped("semi-honest"), rule).to("masked-input")
    assert died(session(grouped("semi-honest"), rule).to("done")) == ""


def test_it_is_remembered_where_the_program_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "client.key.signed"
    cut = session(grouped("semi-honest"), insisting(record=SignedSets(file))).finish().cut
    assert ANEW in died(session(grouped("semi-honest"), insisting(record=SignedSets(file))).to("done"))
    before = file.read_bytes()
    for _ in range(3):  # and it does not grow
        session(grouped("semi-honest", cut=cut), insisting(record=SignedSets(file))).finish()
    assert file.read_bytes() == before


def test_it_stands_beside_the_rule_for_like_vectors(tmp_path: Path) -> None:
    """What one of them allows the other may not."""
    rule = insisting(like=True)
    cut = session(grouped("semi-honest"), rule).finish().cut
    assert ANEW in died(session(grouped("semi-honest"), rule).to("done"))
    near = grouped("semi-honest", cut=cut)
    group = next(group for group in near.sums.cut(b"", IDS) if 0 in group)
    lost = {max(group)}
    assert "too near" in died(session(near, rule, drop={"masked-input": lost}).to("done"))
    assert died(session(near, insisting(record=rule.record), drop={"masked-input": lost}).to("done")) == ""


@both
def test_a_suspended_client_insists_and_says_the_same_again(adversary: str) -> None:
    rule, scheme = insisting(), grouped(adversary)

    def suspended(u: int, vectors: Any, **more: Any) -> Suspended:
        return Suspended(scheme, u, vectors, **more)

    play = session(scheme, rule, victim=suspended).to("masked-input")
    request, before = play.requests[0], play.clients[0].shown[-1]
    play.answer()
    assert play.clients[0].step(before, request)[1] == play.answers[0]
    play.finish()
    assert ANEW in died(session(scheme, rule, victim=suspended, task=b"2").to("done"))


# The policy


def test_a_cohort_that_is_cut_as_it_comes_is_refused_at_the_offer() -> None:
    """That of a run with a sample; and whoever insists on nothing takes it."""
    mine = {"adversary": "semi-honest", "corrupt": 1, "dropout": 2, "smallest_group": 6}
    anew = of_all(adversary="semi-honest", groups=2)
    insists, takes = Policy(**mine, one_cut="june"), Policy(**mine)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError, match=r"ask all clients in every round \(cohort=\)"):
        accept(insists, anew.offer())
    named = grouped("semi-honest")
    assert accept(insists, named.offer()) == named
    assert accept(takes, anew.offer()) == anew


def sum_of(ids: range, adversary: Any) -> Masking:
    """A single sum of these, of a roster of more."""
    roster = identities(IDS)[0] if adversary == "active" else None
    return Masking.for_cohort(len(ids), SPEC, corrupt=1, dropout=0, adversary=adversary, roster=roster)


@both
def test_one_sum_is_a_cut_where_it_is_of_all(adversary: Any) -> None:
    """Of four each time, with others each time, it would be cut anew by sessions instead of by groups."""
    roster = identities(IDS)[0]
    mine = {"adversary": adversary, "corrupt": 1, "dropout": 0}
    insists, takes = Policy(**mine, one_cut="june"), Policy(**mine)
    some, everybody = sum_of(range(4), adversary), sum_of(IDS, adversary)
    assert accept(takes, some.offer(), roster) == some
    with pytest.raises(RemoteProtocolError, match="sums 4 clients at once, of 12 in this client's"):
        accept(insists, some.offer(), roster)
    assert accept(insists, everybody.offer(), roster) == everybody


def test_without_a_roster_nobody_sees_whether_a_sum_is_of_all() -> None:
    insists = Policy(adversary="semi-honest", corrupt=1, dropout=0, one_cut="june")
    with pytest.raises(RemoteProtocolError, match=r"see whether these are all: give it one \(roster=\)"):
        accept(insists, sum_of(IDS, "semi-honest").offer())


@pytest.mark.parametrize("scheme", ["plain", "split", "ckks", "decoys"])
def test_it_takes_no_scheme_in_which_a_server_would_have_another_cut(scheme: str) -> None:
    words = rf"in {scheme} a client is summed by another: take masking alone, or leave that out \(one_cut"
    with pytest.raises(LocalProtocolError, match=words):
        Policy(schemes=frozenset({"masking", scheme}), one_cut="june")
    assert Policy(schemes=frozenset({"masking", scheme})).one_cut is None


@pytest.mark.parametrize("name", ["", "x" * 101, 7, True])
def test_a_name_is_a_few_characters(name: Any) -> None:
    with pytest.raises(LocalProtocolError, match="one_cut"):
        Policy(one_cut=name)


def test_sums_are_as_they_were() -> None:
    total = session(grouped("semi-honest"), insisting()).finish()
    np.testing.assert_array_equal(total.sum[""], [12, 24])
