"""A server that offers its clients different terms: another task, other parameters, another scheme, another
roster. They refuse each other before a vector leaves them; were they not to, their masks would not cancel.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from secagg import LocalProtocolError, Plain, RemoteProtocolError, Roster, throwaway_identities
from secagg.crypto import Tag, digest
from secagg.masking.messages import AdvertiseKeys
from secagg.wire import decode
from tests.enemies.cast import (
    ACTIVE,
    BOTH,
    CORRUPT,
    ENDINGS,
    EVERY,
    VECTORS,
    Company,
    Scene,
    believing,
    company,
    gullible,
    new_keys,
    sign_keys,
    to,
)
from tests.play import TASK

VICTIM = 0
SEVEN_LISTED = company("active", listed=7, threshold=4)
STRANGERS = company("active", threshold=4, small_cohort=True)  # another roster, hence other keys


def vectors_unused(task: bytes) -> Any:
    raise AssertionError("not asked for in this test")


# Another session shown to some


def split(company: Company, change: Any, **more: Any) -> Scene:
    """Client 0 is shown another task than the others, by a server that does not mind what they sign."""
    lie = to(VICTIM, "advertise-keys", change, company.scheme)
    return Scene(company, asks=lie, server_roster=gullible(company.roster), **more)


OTHER_TASKS = {
    "another model": lambda task: replace(task, task=b"round 1 of model 1"),
    "another round": lambda task: replace(task, task=b"round 2 of model 0"),
    "a byte more": lambda task: replace(task, task=TASK + b"\0"),
    "another nonce": lambda task: replace(task, nonce=bytes(32)),
}


SIGNED = {"active": ACTIVE, **ENDINGS}


@pytest.mark.parametrize("company", SIGNED.values(), ids=SIGNED)
@pytest.mark.parametrize("change", OTHER_TASKS.values(), ids=OTHER_TASKS)
def test_clients_shown_different_tasks_refuse_each_other_before_a_vector_leaves(
    company: Company, change: Any
) -> None:
    scene = split(company, change).play()
    assert scene.died.keys() == set(range(6))
    for u, refusal in scene.died.items():
        stranger = 1 if u == 0 else 0
        words = (
            f"client {stranger} are not signed by that client|a key that is not signed by client {stranger} "
        )
        assert re.search(words, str(refusal))
    assert scene.said("share-keys") == scene.said("masked-input") == scene.said("input") == set()
    if company is ACTIVE:
        assert scene.learned(CORRUPT) == set()


@pytest.mark.parametrize("change", OTHER_TASKS.values(), ids=OTHER_TASKS)
def test_were_they_not_to_their_masks_would_not_cancel(change: Any) -> None:
    """Model inconsistency (Pasquini et al. 2022), with the check of the signatures taken away: the server
    knows every self-mask, and still reads no sum in which client 0 is, nor one in which it is not.
    """
    deaf = {u: believing(ACTIVE, u) for u in range(6)}
    scene = split(ACTIVE, change, identities=deaf).to("consistency-check")
    assert scene.said("masked-input") == set(range(6))
    spy = scene.spy(CORRUPT)
    spy.b |= {u: scene.draws[u].given[2] for u in range(6)}
    assert spy.learned() == set()


def test_the_control_of_that_test_without_another_task_reads_the_sum() -> None:
    deaf = {u: believing(ACTIVE, u) for u in range(6)}
    scene = split(ACTIVE, lambda task: task, identities=deaf).to("consistency-check")
    spy = scene.spy(CORRUPT)
    spy.b |= {u: scene.draws[u].given[2] for u in range(6)}
    assert spy.learned() == {frozenset(range(5))}


# Other parameters to some


OTHER_PARAMETERS = {
    "another threshold": {"threshold": 5, "m_min": 5},
    "another m_min": {"m_min": 5},
    "another A": {"corrupt": 2, "threshold": 5, "m_min": 5},
    "another vector": {"vectors": {**VECTORS, "counts": replace(VECTORS["counts"], maximum=2**39)}},
    "another vector's name": {"vectors": {"count": VECTORS["counts"], "weight": VECTORS["weight"]}},
    "small_cohort": {"small_cohort": True},
}


@pytest.mark.parametrize("numbers", OTHER_PARAMETERS.values(), ids=OTHER_PARAMETERS)
def test_clients_shown_different_parameters_refuse_each_other_before_a_vector_leaves(numbers: Any) -> None:
    other = replace(ACTIVE.scheme, **numbers)

    def pretend(round: str, u: int, message: bytes) -> bytes:
        return message if round != "join" else joined

    joined = ACTIVE.scheme.client(1, vectors_unused, identity=ACTIVE.identities[1]).start()
    scene = Scene(
        ACTIVE,
        schemes={VICTIM: other},
        says=pretend,
        server_roster=gullible(ACTIVE.roster),
        inputs=lambda u: dict.fromkeys(other.vectors, [1] * 4) | {"weight": 1} if u == 0 else known(u),
    ).play()
    assert scene.died.keys() == set(range(6))
    assert all("for these parameters and this task" in str(refusal) for refusal in scene.died.values())
    assert scene.said("share-keys") == set()


def known(u: int) -> dict[str, Any]:
    return {"counts": [u] * 4, "weight": 1}


CKKS_PARAMETERS = {
    "another m_min": {"m_min": 5},
    "another vector's name": OTHER_PARAMETERS["another vector's name"],
    "small_cohort": {"small_cohort": True},
}


@pytest.mark.parametrize("company", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("numbers", CKKS_PARAMETERS.values(), ids=CKKS_PARAMETERS)
def test_clients_of_ckks_shown_different_parameters_refuse_each_other(company: Company, numbers: Any) -> None:
    scheme = company.scheme
    other, joined = (
        replace(scheme, **numbers),
        scheme.client(1, vectors_unused, identity=company.identities[1]),
    )
    first = joined.start()
    scene = Scene(
        company,
        schemes={VICTIM: other},
        says=lambda round, u, message: first if round == "join" else message,
        server_roster=gullible(company.roster),
        inputs=lambda u: dict.fromkeys(other.vectors, [1] * 4) | {"weight": 1} if u == 0 else known(u),
    ).play()
    assert scene.died.keys() == set(range(6))
    assert all("of this roster for this session" in str(refusal) for refusal in scene.died.values())
    assert scene.said("share-keys") == set()


@pytest.mark.parametrize("company", EVERY.values(), ids=EVERY)
def test_parameters_offered_again_in_mid_session_are_refused(company: Company) -> None:
    """A session has no message that changes its parameters: an offer is not one, at any time."""
    for round in company.scheme.rounds[1:]:
        for offer in (company.scheme.offer(), Plain.for_cohort(6, VECTORS).offer()):
            scene = Scene(company).to(round)
            with pytest.raises(RemoteProtocolError, match="not a"):
                scene.clients[VICTIM].receive(offer)


@pytest.mark.parametrize("company", BOTH.values(), ids=BOTH)
def test_a_server_that_plays_the_plain_scheme_with_a_masking_client_gets_keys(company: Company) -> None:
    plain = Plain.for_cohort(6, VECTORS).server(range(6), TASK)
    scene = Scene(company).to("advertise-keys").answer()
    with pytest.raises(RemoteProtocolError, match="joined with other parameters"):
        plain.receive(VICTIM, scene.server.view.received[VICTIM][2])
    assert decode(AdvertiseKeys, scene.answers[VICTIM])


# A roster, and a key, of one's own


def test_a_client_without_a_roster_takes_no_part_against_an_active_server() -> None:
    with pytest.raises(LocalProtocolError, match="roster of one's own"):
        ACTIVE.scheme.client(0, vectors_unused)


def test_a_client_with_an_old_roster_takes_no_part() -> None:
    old = Roster(digest(Tag.ROSTER, b"last year's"), ACTIVE.roster.keys)
    identity = type(ACTIVE.identities[0])(0, old, ACTIVE.identities[0].key)
    with pytest.raises(LocalProtocolError, match="another roster"):
        ACTIVE.scheme.client(0, vectors_unused, identity=identity)


def test_an_identity_that_the_roster_does_not_list_is_none() -> None:
    identity = ACTIVE.identities[1]
    for u in (0, 77):
        with pytest.raises(LocalProtocolError, match=f"does not list client {u} with this key"):
            type(identity)(u, identity.roster, identity.key)


def test_a_server_without_the_roster_of_the_parameters_makes_no_session() -> None:
    with pytest.raises(LocalProtocolError, match="roster of one's own"):
        ACTIVE.scheme.server(range(6))
    with pytest.raises(LocalProtocolError, match="another roster"):
        ACTIVE.scheme.server(range(6), roster=STRANGERS.roster)


def test_a_client_outside_the_cohort_that_the_roster_lists_may_be_shown_but_not_beyond_n() -> None:
    """Which of the roster's clients are asked is the server's choice, how many is not."""
    seventh = {6: sign_keys(SEVEN_LISTED, 6, *new_keys())}
    lie = to(VICTIM, "share-keys", lambda r: replace(r, keys=r.keys | seventh), SEVEN_LISTED.scheme)
    scene = Scene(SEVEN_LISTED, asks=lie).play()
    assert "7 clients advertised keys; it takes 4 to 6" in str(scene.died[VICTIM])


def test_throwaway_identities_are_of_one_roster_and_new_each_time() -> None:
    first, identities = throwaway_identities(range(3))
    second, _ = throwaway_identities(range(3))
    assert all(identity.roster == first for identity in identities.values())
    assert first.digest != second.digest
    assert not set(first.keys.values()) & set(second.keys.values())
