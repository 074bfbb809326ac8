"""What a server that recorded everything opens with clients on its side: with t - 1 nothing, with t all."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg.masking.derived import (
    pair_mask_key,
    self_mask_key,
)
from secagg.prg import add_masks
from tests.enemies.cast import BOTH, VECTORS, Company, Scene, Spy, assert_exact, sum_of, vectors_of

T = 4


@cache
def recorded(adversary: str, late: frozenset[int]) -> Scene:
    """A normal session. late: counted as dropped, and their masked inputs arrive all the same."""
    scene = Scene(BOTH[adversary]).to("masked-input").answer()
    uploads = {u: scene.answers.pop(u) for u in late}
    scene.play()
    assert_exact(scene.total, set(range(6)) - late)
    scene.server.view.received += [("masked-input", u, upload) for u, upload in uploads.items()]
    return scene


SESSIONS = [
    pytest.param(adversary, late, id=f"{adversary}, {len(late)} late")
    for adversary in BOTH
    for late in (frozenset(), frozenset({1}), frozenset({1, 4}))
]


def sets_of(size: int) -> list[tuple[int, ...]]:
    return list(combinations(range(6), size))


def derivable(spy: Spy, name: str) -> list[bytes]:
    """Every PRG key of this vector that the schedule gives from the secrets the spy has, in any client's
    session id and for whomever.
    """
    sids, ids = set(spy.sid.values()), sorted(spy.sid)
    keys = {self_mask_key(b, sid, u, name) for b, sid, u in product(spy.b.values(), sids, ids)}
    for s_sk, w in product(spy.s_sk.values(), ids):
        s_vw = s_sk.agree(spy.keys[w][w][1])
        keys |= {pair_mask_key(s_vw, sid, u, v, name) for sid in sids for u, v in combinations(ids, 2)}
    return sorted(keys)


def streams(spy: Spy, name: str, keys: Collection[bytes]) -> NDArray[Any]:
    """(len(keys), m): the mask under each key."""
    masks = np.zeros((len(keys), VECTORS[name].length), spy.words(0, name).dtype)
    for mask, key in zip(masks, keys, strict=True):
        add_masks(mask, [key])
    return masks


def opens(spy: Spy, u: int, sums: NDArray[Any]) -> bool:
    """Whether one of the sums, taken from y_u, leaves x_u."""
    ring = np.uint64(2 ** spy.scheme.ring_bits()["counts"] - 1)
    left = (spy.words(u, "counts") - sums) & ring
    return bool((left == np.array(vectors_of(u)["counts"], np.uint64)).all(axis=1).any())


def every_sum(masks: NDArray[Any]) -> NDArray[Any]:
    """(3^k, m): the k masks, each added, subtracted or left out."""
    sums = np.zeros((1, masks.shape[1]), masks.dtype)
    for mask in masks:
        sums = np.concatenate([sums, sums + mask, sums - mask])
    return sums


@pytest.mark.parametrize(("adversary", "late"), SESSIONS)
def test_with_fewer_than_t_clients_on_its_side_the_server_learns_the_sum_of_the_others(
    adversary: str, late: frozenset[int]
) -> None:
    """Whichever t - 1 they are; and but for that sum, no group's."""
    for colluders in sets_of(T - 1):
        spy = recorded(adversary, late).spy(*colluders)
        others = frozenset(range(6)) - late - set(colluders)
        assert spy.learned() == ({others} if others else set())
        assert not others or spy.read(others) == sum_of(others)


@pytest.mark.parametrize(("adversary", "late"), SESSIONS)
def test_with_fewer_than_t_clients_on_its_side_no_key_of_the_schedule_opens_a_vector(
    adversary: str, late: frozenset[int]
) -> None:
    """Each of them alone, and every signed sum of those that are on this vector. A client that is alone in
    U3 with the server's own is its sum, and is left out.
    """
    for colluders in sets_of(T - 1):
        spy = recorded(adversary, late).spy(*colluders)
        every = streams(spy, "counts", derivable(spy, "counts"))
        for u in spy.honest - set().union(*(group for group in spy.learned() if len(group) == 1)):
            on_it = streams(spy, "counts", dict(spy.masks(u, "counts")))
            assert not opens(spy, u, every_sum(on_it))
            assert not opens(spy, u, every)
            assert not opens(spy, u, -every)


@pytest.mark.parametrize(("adversary", "late"), SESSIONS)
def test_with_t_clients_on_its_side_it_opens_the_others_one_by_one(
    adversary: str, late: frozenset[int]
) -> None:
    """The control: every s^SK is rebuilt, and b of the survivors was returned anyhow; with t colluders b of
    those that were late, too.
    """
    for colluders in sets_of(T):
        spy = recorded(adversary, late).spy(*colluders)
        others = set(range(6)) - set(colluders)
        assert spy.learned() == {frozenset({u}) for u in others}
        for u in others:
            assert spy.read({u}) == {"counts": vectors_of(u)["counts"], "weight": [vectors_of(u)["weight"]]}
            assert opens(spy, u, every_sum(streams(spy, "counts", dict(spy.masks(u, "counts")))))


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("round", ["masked-input", "consistency-check", "unmasking"])
def test_a_session_that_ends_with_too_few_teaches_t_less_one_colluders_nothing(
    company: Company, round: str
) -> None:
    if round not in company.scheme.rounds:
        return
    scene = Scene(company, drop={round: {0, 1, 2}}).play()
    assert scene.total is None
    for colluders in sets_of(T - 1):
        assert all(len(group) > 1 for group in scene.learned(*colluders)), colluders


def test_what_is_recorded_of_a_vector_is_not_the_vector() -> None:
    """The floor of the tests above: with no secret at all, what was sent is not what it hides.

    Of the counts: a weight, of six bits, is now and then masked to itself.
    """
    for adversary in BOTH:
        spy = recorded(adversary, frozenset()).spy()
        for u in range(6):
            assert spy.words(u, "counts").tolist() != vectors_of(u)["counts"]
