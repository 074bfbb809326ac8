"""What a server that recorded everything opens with clients on its side: with t - 1 nothing, with t all; and
of CKKS with none nothing, with one all.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg.ckks.derived import seal_data, seal_key
from secagg.ckks.messages import CiphertextsRequest, ShareCkksKeyRequest
from secagg.ckks.packing import residues_of_key, unpack_residues
from secagg.ckks.seal import Keys
from secagg.crypto import SecretKey, Tag, kdf, unseal
from secagg.masking.derived import (
    pair_mask_key,
    self_mask_key,
)
from secagg.prg import add_masks
from secagg.wire import decode
from tests.enemies.cast import BOTH, ENDINGS, VECTORS, Company, Scene, Spy, assert_exact, sum_of, vectors_of

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


# CKKS: what its warning says, that one client on the server's side opens every upload


def uploads_opened(scene: Scene, colluder: int, c_sk: SecretKey) -> dict[int, dict[str, list[int]]]:
    """With the key that this client advertised, or any other, from what the server heard and said."""
    scheme, sid = scene.scheme, scene.inner._sid
    keys = decode(
        ShareCkksKeyRequest, next(m for r, _, m in scene.server.view.sent if r == "share-keys")
    ).keys
    request = decode(CiphertextsRequest, next(m for r, _, m in scene.server.view.sent if r == "input"))
    agreed = c_sk.agree(keys[request.maker][0])
    data = seal_data(sid, request.maker, colluder, request.secret)
    K = unseal(seal_key(agreed, sid, request.maker, colluder), request.sealed[colluder], data)
    if K is None:
        return {}
    secret = unseal(kdf(Tag.CKKS_SECRET_KEY, K, sid, request.maker), request.secret, sid)
    plan, opened = scheme.plan, {}
    opener = Keys(plan.ring, plan.scale, residues_of_key(plan.ring, secret))
    for u in scene.said("input"):
        residues = unpack_residues(plan.ring, plan.ciphertexts, scene.message("input", u).residues)
        slots = np.concatenate([opener.decrypt(each) for each in residues])[: plan.slots]
        opened[u] = {name: x.tolist() for name, x in plan.from_slots(slots).items()}
    return opened


@pytest.mark.parametrize("company", ENDINGS.values(), ids=ENDINGS)
def test_of_ckks_the_key_of_one_client_opens_every_upload_and_any_other_key_none(company: Company) -> None:
    scene = Scene(company).play()
    assert_exact(scene.total, range(6))
    every = {u: {"counts": vectors_of(u)["counts"], "weight": [vectors_of(u)["weight"]]} for u in range(6)}
    for colluder in (1, 5):
        c_sk = SecretKey(scene.draws[colluder].given[0])
        assert uploads_opened(scene, colluder, c_sk) == every
        assert uploads_opened(scene, colluder, SecretKey.generate()) == {}
        assert uploads_opened(scene, colluder, SecretKey(scene.draws[3].given[0])) == {}


@pytest.mark.parametrize("company", ENDINGS.values(), ids=ENDINGS)
def test_what_is_recorded_of_an_upload_of_ckks_is_not_the_vector(company: Company) -> None:
    """The floor of the test above; nor is it under another session's key."""
    scene, plan = Scene(company).play(), company.scheme.plan
    other = Keys(plan.ring, plan.scale)
    for u in range(6):
        residues = unpack_residues(plan.ring, plan.ciphertexts, scene.message("input", u).residues)
        slots = np.concatenate([other.decrypt(each) for each in residues])[: plan.slots]
        assert (
            not np.isfinite(slots).all()
            or plan.from_slots(slots)["counts"].tolist() != vectors_of(u)["counts"]
        )
        first = residues[0, 0].ravel()[: len(vectors_of(u)["counts"])].tolist()
        assert first != vectors_of(u)["counts"]
