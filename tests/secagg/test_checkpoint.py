"""Checkpoints: a server that is stopped between any two calls goes on as if nothing had happened, and one
that is set back asks the same again. What it has not of clients by that: tests/enemies/test_rollback.py.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import Bounded, Counts, LocalProtocolError, Recorded, RemoteProtocolError, TooFewClients
from secagg import checkpoint as checkpoints
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.crypto import SigningKey
from secagg.plain import PlainServer
from secagg.rounds import KeptRounds
from tests.play import TASK, Play, Session, identities, seeded
from tests.secagg.helpers import MIXED, SCHEMES, assert_sum_of, flips, mixed_inputs, roster_of
from tests.secagg.suspended import SuspendedServer

IDS = range(5)
INPUTS = mixed_inputs(IDS)
KEY = SuspendedServer.KEY
KEPT = {
    name: SCHEMES[name](IDS, MIXED, **({"corrupt": 0, "threshold": 3} if name == "active" else {}))
    for name in ("plain", "semi-honest", "active", "split", "split-semi-honest")
}
each_scheme = pytest.mark.parametrize("scheme", KEPT.values(), ids=KEPT)


def play(scheme: Any, *, joint: bool = False) -> Play:
    """A session that is the same each time, whose server is thrown away after every call."""
    made = Play(scheme, INPUTS, rng=seeded, server_rng=seeded(1), joint=joint)
    made.server = SuspendedServer(made.server, roster=roster_of(scheme, IDS))
    return made


def restored(scheme: Any, kept: bytes, key: bytes = KEY, **more: Any) -> Any:
    return checkpoints.restore(scheme, kept, key, **{"roster": roster_of(scheme, IDS)} | more)


# Going on


@pytest.mark.parametrize("joint", [False, True], ids=["", "opened jointly"])
@each_scheme
def test_a_server_that_is_set_back_asks_the_same_again_and_has_the_same_sum(scheme: Any, joint: bool) -> None:
    """Whichever of its checkpoints it goes on from, where it is told again what was said."""
    one = play(scheme, joint=joint)
    said: dict[str, dict[int, bytes]] = {}
    asked: dict[str, dict[int, bytes]] = {}
    while (round := one.server.round) != "done":
        said[round] = dict(one.answer().answers)
        one.close()
        asked[round] = dict(one.requests)
    for kept in one.server.kept:
        server = restored(scheme, kept)
        while (round := server.round) != "done":
            for u in sorted(server.waiting_for):
                server.receive(u, said[round][u])
            for u, message in said[round].items():
                server.receive(u, message)  # it came twice
            assert server.advance() == asked[round]
        assert_same(server.result, one.server.result)


def assert_same(total: Any, expected: Any) -> None:
    assert total.survivors == expected.survivors
    for name in expected.sum:
        assert total.sum[name].tobytes() == expected.sum[name].tobytes()


@each_scheme
def test_saving_changes_nothing(scheme: Any) -> None:
    made = Play(scheme, INPUTS)
    while made.server.round != "done":
        checkpoints.save(made.server, KEY)
        made.answer().close()
    assert_sum_of(scheme, INPUTS, made.server.result, set(IDS))


@each_scheme
def test_who_was_lost_or_turned_away_stays_so(scheme: Any) -> None:
    one = play(scheme).to(scheme.upload_round)
    one.server.lose(0, "its battery")
    with pytest.raises(RemoteProtocolError, match="client 1, "):
        one.server.receive(1, b"")
    assert (one.server.gone, 0 in one.server.members) == ({0: "its battery"}, False)
    assert one.server.waiting_for == {2, 3, 4}
    one.lost |= {0, 1}
    if scheme.upload_round == "shares" and scheme.m_min > 3:
        with pytest.raises(TooFewClients):
            one.answer().close()
        return
    one.to("done")
    assert_sum_of(scheme, INPUTS, one.server.result, {2, 3, 4})


@pytest.mark.parametrize("name", ["semi-honest", "active"])
def test_what_could_not_be_used_is_still_known_and_a_sum_is_still_finished(name: str) -> None:
    """Too few have answered the last request; the checkpoint is of the round that is still open."""
    one = play(KEPT[name]).to("unmasking").answer()
    late = {u: one.answers.pop(u) for u in (0, 1, 2)}
    with pytest.raises(TooFewClients):
        one.close()
    assert one.server.round == "unmasking"
    assert one.server.waiting_for == {0, 1, 2}
    one.answers = late
    one.close()
    assert_sum_of(KEPT[name], INPUTS, one.server.result, set(IDS))


def test_a_key_that_another_has_advertised_is_still_in_use() -> None:
    one = play(KEPT["semi-honest"]).to("advertise-keys").answer()
    one.server.receive(0, one.answers[0])
    with pytest.raises(RemoteProtocolError, match="advertised a key that is already in use"):
        one.server.receive(1, one.answers[0])


def test_parts_of_a_plain_sum_are_still_kept_apart() -> None:
    scheme = KEPT["plain"]
    made = Play(scheme, INPUTS)
    made.server = SuspendedServer(scheme.server(IDS, TASK, parts=True))
    parts = made.to("done").server.result.parts
    assert [set(part.survivors) for part in parts] == [{u} for u in IDS]
    assert [part.sum["counts"].tolist() for part in parts] == [INPUTS[u]["counts"] for u in IDS]


@pytest.mark.parametrize("lost", [set(), {0}, {3}])
@pytest.mark.parametrize("earlier", [None, {1, 2, 3, 4}], ids=["", "beside an earlier sum"])
@pytest.mark.parametrize("batch", [0, 2])
def test_what_may_have_to_be_left_out_is_still_apart(lost: set[int], earlier: Any, batch: int) -> None:
    """By batches, and by the sets that were summed of like vectors: the sums are those of a live server."""
    scheme = SCHEMES["semi-honest"](IDS, MIXED, threshold=3, m_min=3, batch=batch, corrupt=0)
    sums = []
    for kept in (False, True):
        rule = Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes(32)))
        if earlier:
            rule.of(b"").sign(earlier, 0, [])
        made = Play(scheme, INPUTS, drop={"masked-input": lost}, rng=seeded)
        made.server = scheme.server(IDS, TASK, alike=rule, rng=seeded(1))
        if kept:
            made.server = SuspendedServer(made.server, alike=rule)
        try:
            sums.append(made.finish())
        except (TooFewClients, LocalProtocolError) as refusal:
            sums.append(str(refusal))
    if isinstance(sums[0], str):
        assert sums[1] == sums[0]
    else:
        assert_same(sums[1], sums[0])


@pytest.mark.parametrize("name", ["semi-honest", "split"])
def test_a_sum_of_coins_that_stands_on_record_is_no_reason_against_itself(name: str) -> None:
    """Beside it there is no other; and the server was stopped after the record was written, and before the
    session was saved.
    """
    ids = range(60)
    inputs = {u: np.zeros(2) for u in ids}
    scheme = SCHEMES[name](ids, Bounded(length=2, bound=1.0, bits=8), blank=0.1)
    rule = Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes(32)))
    again = {"roster": roster_of(scheme, ids), "alike": rule}
    closing = "masked-input" if name == "semi-honest" else "deliver"

    def begun(task: bytes) -> Session:
        made = Play(scheme, inputs)
        made.server = scheme.server(ids, task, **again)
        return made.to(closing).answer()

    made = begun(b"a task")
    for u, answer in made.answers.items():
        made.server.receive(u, answer)
    kept, made.answers = checkpoints.save(made.server, KEY), {}
    requests = made.server.advance()
    made.server = checkpoints.restore(scheme, kept, KEY, **again)
    made.close()
    assert made.requests == requests
    assert made.finish().survivors == set(ids)
    with pytest.raises((LocalProtocolError, RemoteProtocolError)):
        begun(b"another")


# What is refused


@lru_cache(maxsize=1)
def one() -> tuple[Any, bytes]:
    """A scheme, and a checkpoint of a session of it."""
    return KEPT["active"], play(KEPT["active"]).to("masked-input").server.kept[-1]


def test_a_checkpoint_that_was_altered_does_not_open() -> None:
    scheme, kept = one()
    altered = [part + kept[60:] for part in flips(kept[:60])] + [
        kept[:-4] + part for part in flips(kept[-4:])
    ]
    for spoilt in (*altered, *(kept[:cut] for cut in range(0, len(kept), 50)), kept + b"\0"):
        with pytest.raises(LocalProtocolError):
            restored(scheme, spoilt)
    for nothing in (b"", b"\xc0", msgspec.msgpack.encode(["secagg-ticket", 1, bytes(32), bytes(64)])):
        with pytest.raises(LocalProtocolError, match="this is no checkpoint of a server's session"):
            restored(scheme, nothing)
    assert restored(scheme, kept).round == "masked-input"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kept: {"key": bytes(32)}, "this checkpoint does not open"),
        (lambda kept: {"key": KEY[:31]}, "a checkpoint's key has at least 32 secret bytes"),
        (lambda kept: {"scheme": msgspec.structs.replace(KEPT["active"], prg="chacha20")}, "does not open"),
        (lambda kept: {"scheme": KEPT["semi-honest"]}, "does not open"),
        (lambda kept: {"roster": None}, "a roster of one's own is needed"),
        (lambda kept: {"roster": identities(range(6))[0]}, "another roster"),
        (
            lambda kept: {"kept": msgspec.msgpack.encode(["secagg-checkpoint", 3, "a later form"])},
            "a checkpoint of version 3, this is version 2",
        ),
    ],
)
def test_a_checkpoint_is_of_one_key_scheme_roster_and_version(
    change: Callable[[bytes], dict[str, Any]], words: str
) -> None:
    scheme, kept = one()
    with pytest.raises(LocalProtocolError, match=words):
        restored(**{"scheme": scheme, "kept": kept} | change(kept))


def test_a_session_with_a_rule_for_like_sums_is_not_gone_on_with_without() -> None:
    scheme = KEPT["semi-honest"]
    rule = Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes(32)))
    kept = checkpoints.save(scheme.server(IDS, TASK, alike=rule), KEY)
    with pytest.raises(LocalProtocolError, match="begun with a rule for like sums: give it again"):
        restored(scheme, kept)
    assert restored(scheme, kept, alike=rule)._like.kind == "input"


def test_what_cannot_be_kept_says_so() -> None:
    for name in ("ckks-keep", "ckks-release", "decoys"):
        scheme = SCHEMES[name](range(4), {"": Counts(length=4, maximum=9)})
        with pytest.raises(LocalProtocolError, match="this server's session cannot be kept: of masking"):
            checkpoints.save(scheme.server(range(4), roster=identities(range(4))[0]), KEY)
    with pytest.raises(LocalProtocolError, match="without an instrument around it"):
        checkpoints.save(Recorded(KEPT["plain"].server(IDS)), KEY)
    over = Play(KEPT["plain"], INPUTS).to("done").server
    with pytest.raises(LocalProtocolError, match="this session is over: there is nothing to go on with"):
        checkpoints.save(over, KEY)


def test_what_is_longer_than_one_seal_takes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MAX_SEALED", 50)
    with pytest.raises(LocalProtocolError, match="bytes cannot be kept: it is"):
        checkpoints.save(KEPT["plain"].server(IDS), KEY)


# What a checkpoint is


def test_two_checkpoints_of_one_state_have_nothing_in_common() -> None:
    """Else who has several would know the sum of their differences: no nonce seals two things."""
    server = KEPT["semi-honest"].server(IDS, TASK)
    a, b = (msgspec.msgpack.decode(checkpoints.save(server, KEY)) for _ in range(2))
    assert a[:2] == b[:2]
    assert a[2] != b[2]
    assert not {a[3][i : i + 8] for i in range(0, len(a[3]), 8)} & {
        b[3][i : i + 8] for i in range(0, len(b[3]), 8)
    }


def test_its_size_is_that_of_the_packed_sum_and_what_clients_have_dealt() -> None:
    """And not of the uploads, nor of the task once all have it."""
    vectors = {"": Bounded(length=10_000, bound=1.0, bits=16)}
    scheme = SCHEMES["active"](IDS, vectors)
    made = Play(scheme, {u: np.zeros(10_000) for u in IDS})
    made.server = SuspendedServer(
        scheme.server(IDS, bytes(50_000), roster=roster_of(scheme, IDS)), roster=roster_of(scheme, IDS)
    )
    sizes = {"join": len(made.server.kept[-1])}
    while made.server.round != "done":
        sizes[made.server.round] = len(made.server.kept[-1])
        made.answer().close()
    packed = scheme.upload_bytes
    assert sizes["join"] > 50_000
    assert sizes["advertise-keys"] < 1_000
    assert all(packed < sizes[round] < packed + 6_000 for round in ("masked-input", "unmasking"))


def test_what_it_seals_is_neither_printed_nor_pickled() -> None:
    server = play(KEPT["active"]).to("unmasking").server.restored()
    kept = msgspec.msgpack.decode(server.suspend(), type=KeptRounds)
    assert repr(kept) == "KeptRounds(<hidden>)"
    assert "hidden" in repr(next(iter(server._shares.values())))
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(kept)


FROZEN = {
    "plain": "d14a879f643aaeda28a0693c3667ed0c6c92797352634578972592d5b5bed26e",
    "semi-honest": "b21004cd9bc1c887492431a0b7631d55a038d5eba43b4aaf9519d17f7ba4a217",
    "active": "e5e244b70915bb8e0f46ac4dbdffff1f57b010353af26543ad746a0fecceddfc",
    "split": "f3576fd439c6404b92108e165192fe514931b99622abb7ea256364436084a0db",
}


@pytest.mark.parametrize("name", FROZEN)
def test_the_form_of_checkpoints_is_frozen(name: str) -> None:
    """Another form is another CHECKPOINT_VERSION. SHA-256 of what all checkpoints of a session seal."""
    one, form = play(KEPT[name]), hashlib.sha256()
    while one.server.round != "done":
        form.update(one.server.restored().suspend())
        one.answer().close()
    assert form.hexdigest() == FROZEN[name]


def test_a_scheme_of_ones_own_is_not_kept_unless_it_says_how() -> None:
    class Mine(PlainServer):
        suspendable = False

    with pytest.raises(LocalProtocolError, match="cannot be kept"):
        checkpoints.save(Mine(KEPT["plain"], IDS, TASK), KEY)
