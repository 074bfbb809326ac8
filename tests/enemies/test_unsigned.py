"""Where nothing is signed there are no signatures and no commitments: nobody adds any, or leaves any out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from secagg.masking.messages import Commitments
from secagg.wire import Message
from tests.enemies.cast import ACTIVE, SEMI_HONEST, Scene, assert_exact, of, to

SIGNATURE = bytes(64)
COMMITMENTS = Commitments(bytes(32), bytes(32))

ADDED: dict[str, tuple[str, Callable[[Any], Message]]] = {
    "a signature of keys": ("advertise-keys", lambda m: replace(m, signature=SIGNATURE)),
    "a signature of shares": ("share-keys", lambda m: replace(m, signature=SIGNATURE)),
    "a commitment of its mask": ("share-keys", lambda m: replace(m, commitment=bytes(32))),
    "commitments of shares": (
        "share-keys",
        lambda m: replace(m, commitments=dict.fromkeys(m.sealed, COMMITMENTS)),
    ),
}


@pytest.mark.parametrize("what", ADDED)
def test_who_adds_what_nobody_signs_loses_its_place(what: str) -> None:
    round, change = ADDED[what]
    scene = Scene(SEMI_HONEST, says=of(2, round, change)).play()
    assert "in a session where nothing is signed" in str(scene.refused[2])
    assert scene.refused[2].culprits == {2}
    assert_exact(scene.total, set(range(6)) - {2})


def test_a_client_refuses_signed_keys_where_nothing_is_signed() -> None:
    lie = to(
        0,
        "share-keys",
        lambda r: replace(r, keys=r.keys | {1: (*r.keys[1][:2], SIGNATURE)}),
        SEMI_HONEST.scheme,
    )
    scene = Scene(SEMI_HONEST, asks=lie).play()
    assert "signed keys in a session where nothing is signed" in str(scene.died[0])
    assert_exact(scene.total, range(1, 6))


@pytest.mark.parametrize(
    ("company", "commitments"), [(SEMI_HONEST, COMMITMENTS), (ACTIVE, None)], ids=["added", "left out"]
)
def test_a_client_refuses_commitments_that_do_not_belong_and_those_that_are_missing(
    company: Any, commitments: Commitments | None
) -> None:
    def change(request: Any) -> Message:
        return replace(request, dealt=request.dealt | {1: replace(request.dealt[1], commitments=commitments)})

    scene = Scene(company, asks=to(0, "masked-input", change, company.scheme)).play()
    assert "against an active server, and only then" in str(scene.died[0])
    assert_exact(scene.total, range(1, 6))
