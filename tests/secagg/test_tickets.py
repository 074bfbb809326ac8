"""Suspended clients and relays: whoever is thrown away between any two messages says what a live one says."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    Bounded,
    Counts,
    LocalProtocolError,
    Masking,
    Private,
    Recorded,
    RemoteProtocolError,
    tickets,
)
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.crypto import Rng, SigningKey
from secagg.masking.messages import ShareKeysRequest, UnmaskingRequest
from secagg.record import AroundClient
from secagg.session import ClientSession, relays_of
from secagg.states import StatefulClient
from secagg.tickets import InMemory
from secagg.wire import Task, decode, encode, relay_of
from tests.play import TASK, Session, identities, rounding_seed, seeded
from tests.secagg.helpers import FIVE, MIXED, SCHEMES, assert_sum_of, flips, mixed_inputs
from tests.secagg.suspended import Suspended, SuspendedServer

INPUTS = mixed_inputs(range(5))
SUSPENDABLE = ("plain", "semi-honest", "active", "split", "split-semi-honest")
IDS = range(5)


class Steps:
    """A generator that is another one for each step: what a suspended client with the same key draws from."""

    def __init__(self, rng: Rng) -> None:
        self.name, self.key = rng(tickets.NAME_BYTES), rng(32)
        self.at(0)

    def at(self, step: int) -> None:
        self._rng, self._step = tickets.drawn(self.key, self.name, step), step

    def following(self) -> None:
        self.at(self._step + 1)

    def __call__(self, n: int) -> bytes:
        return self._rng(n)


class Live:
    """A live client that draws so."""

    def __init__(self, client: ClientSession, steps: Steps) -> None:
        self._client, self._steps = client, steps

    def start(self) -> bytes:
        return self._client.start()

    def receive(self, message: bytes) -> bytes | None:
        self._steps.following()
        return self._client.receive(message)

    @property
    def result(self) -> None:
        return None


def live(scheme: Any, u: int) -> Live:
    steps, identity = Steps(seeded(u)), identities(IDS)[1][u]
    if u not in IDS:
        return Live(scheme.relay(relay_of(u), identity=identity, rng=steps), steps)
    client = scheme.client(
        u, lambda task: INPUTS[u], rounding_seed=rounding_seed(u), identity=identity, rng=steps
    )
    return Live(client, steps)


def suspended(scheme: Any, u: int, **more: Any) -> Suspended:
    given: dict[str, Any] = {"identity": identities(IDS)[1][u], "rng": seeded(u)}
    if u in IDS:
        given |= {"rounding_seed": rounding_seed(u), "vectors": lambda task: INPUTS[u]}
    return Suspended(scheme, u, **given | more)


def session(
    scheme: Any,
    clients: Mapping[int, Any],
    drop: Mapping[str, set[int]] | None = None,
    *,
    thrown: bool = False,
) -> Session:
    """thrown: the server is suspended, too."""
    roster, keys = identities(IDS)
    relays = {r: scheme.relay(j, identity=keys[r], rng=seeded(r)) for j, r in enumerate(relays_of(scheme))}
    server: Any = scheme.server(IDS, TASK, roster=roster, rng=seeded(99))
    server = Recorded(SuspendedServer(server, roster=roster) if thrown else server)
    return Session(server, {**relays, **clients}, drop=drop)


def of_masking(adversary: str, **more: Any) -> Session:
    """Five clients, of whom three are enough."""
    scheme = FIVE[adversary]
    return session(scheme, {u: suspended(scheme, u, **more) for u in IDS})


@settings(max_examples=20)
@pytest.mark.parametrize("name", SUSPENDABLE)
@given(st.data())
def test_a_session_whose_parties_are_thrown_away_is_the_session_of_live_ones(
    name: str, data: st.DataObject
) -> None:
    """The same sum, whoever is lost and whoever is live, clients, relays and the server; and the same bytes,
    both ways.
    """
    numbers = {"corrupt": 0, "threshold": 3} if name == "active" else {}
    scheme = SCHEMES[name](IDS, MIXED, **numbers)
    rounds = [round for round in scheme.rounds if round not in ("relay-keys", "deliver", "columns")]
    most = 2 if name in ("semi-honest", "active") else 0
    lost = data.draw(st.sets(st.sampled_from(IDS), max_size=most), label="lost")
    drop = {data.draw(st.sampled_from(rounds), label="in"): lost}
    parties = [*IDS, *relays_of(scheme)]
    some = st.just({*parties}) | st.sets(st.sampled_from(parties))
    thrown = data.draw(some, label="suspended"), data.draw(st.booleans(), label="and the server")
    seen = []
    for clients, server in ((set(), False), thrown):
        made = {u: suspended(scheme, u) if u in clients else live(scheme, u) for u in parties}
        play = session(scheme, made, drop, thrown=server)
        total = play.finish()
        assert total.survivors >= set(IDS) - lost
        seen.append((play.server.view.received, play.server.view.sent, total))
    assert seen[0][:2] == seen[1][:2]
    assert {n: x.tolist() for n, x in seen[0][2].sum.items()} == {
        n: x.tolist() for n, x in seen[1][2].sum.items()
    }


@pytest.mark.parametrize("adversary", FIVE)
@pytest.mark.parametrize("behind", [0, 1], ids=["the ticket from before", "the ticket from after"])
def test_a_message_that_comes_again_gets_the_same_bytes(adversary: str, behind: int) -> None:
    play = of_masking(adversary)
    client = play.clients[0]
    while play.server.round != "done":
        if request := play.requests.get(0):
            reply = client.receive(request)
            ticket = client.shown[-2:][behind]
            again, repeated = client.step(ticket, request)
            assert repeated == reply
            if behind:
                assert again == ticket
            else:
                client.shown[-1] = again  # where that one was lost, the session goes on with this one
            play.answers[0], play.requests = reply, {u: m for u, m in play.requests.items() if u}
        play.answer().close()
    assert client.done
    assert_sum_of(FIVE[adversary], INPUTS, play.server.result, set(IDS))


@pytest.mark.parametrize("adversary", FIVE)
def test_what_is_refused_burns_no_step(adversary: str) -> None:
    """Unlike in a live session: anybody's bytes may reach a handler."""
    play = of_masking(adversary)
    client = play.clients[0]
    while play.server.round != "done":
        if request := play.requests.get(0):
            before = repr(vars(client.record))
            for garbage in (b"", request[:-1], request + b"\0", encode(Task(bytes(32), b""))[:-1]):
                with pytest.raises(RemoteProtocolError):
                    client.step(client.shown[-1], garbage)
            assert repr(vars(client.record)) == before
        play.answer().close()
    assert_sum_of(FIVE[adversary], INPUTS, play.server.result, set(IDS))


def test_a_message_that_follows_no_rule_burns_no_step_either() -> None:
    """Well formed, and refused by the checks: nothing of what was drawn meanwhile is of any consequence."""
    play = of_masking("active").to("share-keys")
    client, request = play.clients[0], play.requests[0]
    keys = decode(ShareKeysRequest, request).keys
    forged = keys | {4: (keys[4][0], keys[4][1], bytes(64))}
    with pytest.raises(RemoteProtocolError, match="not signed by that client"):
        client.step(client.shown[-1], encode(ShareKeysRequest(forged)))
    play.to("done")
    assert_sum_of(FIVE["active"], INPUTS, play.server.result, set(IDS))


def test_no_ticket_opens_after_the_end() -> None:
    play = of_masking("active").to("done")
    client = play.clients[0]
    tickets.end(client.shown[-1], record=client.record)
    tickets.end(client.shown[0], record=client.record)  # again, by any of them
    for ticket, message in zip(client.shown[1:], client.asked, strict=True):
        with pytest.raises(LocalProtocolError, match="is over"):
            client.step(ticket, message)
    assert client.record._keys == client.record._answers == {}


def test_a_session_that_is_done_says_nothing_new() -> None:
    client = of_masking("semi-honest").to("done").clients[0]
    with pytest.raises(LocalProtocolError, match="all it has to say"):
        client.step(client.shown[-1], encode(UnmaskingRequest([1])))


def test_a_ticket_that_was_altered_does_not_open() -> None:
    play = of_masking("semi-honest").to("share-keys")
    client, request = play.clients[0], play.requests[0]
    ticket = client.shown[-1]
    for altered in (*flips(ticket[:60]), *flips(ticket[-20:])):
        changed = altered + ticket[60:] if len(altered) == 60 else ticket[:-20] + altered
        with pytest.raises(LocalProtocolError):
            client.step(changed, request)
    for cut in range(len(ticket)):
        with pytest.raises(LocalProtocolError):
            client.step(ticket[:cut], request)
    for nothing in (b"", b"\xc0", request):
        with pytest.raises(LocalProtocolError, match="this is no ticket of a suspended session"):
            client.step(nothing, request)
    client.step(ticket, request)


def test_a_ticket_is_of_one_client_session_step_and_scheme() -> None:
    play = of_masking("semi-honest").to("share-keys")
    client, request = play.clients[0], play.requests[0]
    shown = client.shown[-1]
    other = suspended(client.scheme, 0, record=client.record, rng=seeded(77))
    other.start()
    fields = msgspec.msgpack.decode(shown)
    first = msgspec.msgpack.decode(client.shown[0])
    its = msgspec.msgpack.decode(other.shown[0])
    assert fields[0] == "secagg-ticket"
    for changed in (
        [*fields[:2], its[2], *fields[3:]],  # the name of another session of the same record
        [*fields[:3], first[3], *fields[4:]],  # another step
        [*fields[:4], True, fields[5]],
        [*fields[:5], first[5]],
    ):
        with pytest.raises(LocalProtocolError, match="this ticket does not open"):
            client.step(msgspec.msgpack.encode(changed), request)
    with pytest.raises(LocalProtocolError, match="this ticket does not open"):
        client.step(shown, request, u=1, identity=identities(IDS)[1][1])
    with pytest.raises(LocalProtocolError, match="is over, or is another client's"):
        client.step(shown, request, record=InMemory())
    client.scheme = replaced(client.scheme)
    with pytest.raises(LocalProtocolError, match="this ticket does not open"):
        client.step(shown, request)


def replaced(scheme: Masking) -> Masking:
    return msgspec.structs.replace(scheme, prg="chacha20")


def test_a_ticket_of_another_version_is_refused() -> None:
    client = suspended(FIVE["active"], 0)
    client.start()
    fields = msgspec.msgpack.decode(client.shown[0])
    with pytest.raises(LocalProtocolError, match="a ticket of version 2, this is version 1"):
        client.step(msgspec.msgpack.encode([fields[0], 2, *fields[2:]]), b"")


@pytest.mark.parametrize("rest", [[], [7, {"of": "a later form"}]])
def test_a_session_of_another_version_is_ended(rest: Any) -> None:
    """Or nobody could erase its key, once the program was replaced."""
    client = suspended(FIVE["active"], 0)
    client.start()
    tag, _, name, *_ = msgspec.msgpack.decode(client.shown[0])
    tickets.end(msgspec.msgpack.encode([tag, 2, name, *rest]), record=client.record)
    assert client.record._keys == client.record._answers == {}
    for nothing in (b"", b"\xc0", [tag, 2], [tag, 2, name[:-1]], ["secagg-checkpoint", 2, name]):
        with pytest.raises(LocalProtocolError, match="this is no ticket"):
            tickets.end(
                nothing if isinstance(nothing, bytes) else msgspec.msgpack.encode(nothing),
                record=client.record,
            )


def test_a_client_without_its_vectors_is_told_to_give_them_and_its_ticket_remains_good() -> None:
    play = of_masking("semi-honest").to("advertise-keys")
    client, request = play.clients[0], play.requests[0]
    with pytest.raises(LocalProtocolError, match=r"give them \(vectors\)"):
        client.step(client.shown[-1], request, vectors=None)
    assert client.receive(request)


def test_what_cannot_be_recorded_does_not_leave_and_the_ticket_remains_good() -> None:
    play = of_masking("active").to("share-keys")
    client, request = play.clients[0], play.requests[0]

    class Full(InMemory):
        def answer(self, name: bytes, step: int, digest: bytes) -> bytes | None:
            raise OSError("the disk is full")

    full = Full()
    vars(full).update(vars(client.record))
    with pytest.raises(OSError, match="full"):
        client.step(client.shown[-1], request, record=full)
    play.to("done")
    assert_sum_of(FIVE["active"], INPUTS, play.server.result, set(IDS))


# Vectors


def test_vectors_that_are_given_twice_and_come_out_otherwise_are_refused() -> None:
    """Else the two would leave under one mask, where the first ticket was lost."""
    play = of_masking("semi-honest").to("advertise-keys")
    client, request = play.clients[0], play.requests[0]
    client.receive(request)
    with pytest.raises(RemoteProtocolError, match="with other vectors"):
        client.step(client.shown[0], request, vectors=lambda task: INPUTS[1])


@pytest.mark.parametrize("adversary", FIVE)
def test_vectors_are_asked_for_once_where_no_ticket_is_lost(adversary: str) -> None:
    calls: list[bytes] = []
    scheme = FIVE[adversary]
    clients = {u: suspended(scheme, u) for u in IDS}
    clients[0].vectors = lambda task: calls.append(task) or INPUTS[0]
    session(scheme, clients).to("done")
    assert calls == [TASK]
    assert clients[0].clipping.keys() == MIXED.keys()


@pytest.mark.parametrize(
    "vectors",
    [
        {"": Private(length=4, clip=1.0, multiplier=1.0, bits=16)},
        {"": Bounded(length=4, bound=1.0, bits=8)},
    ],
    ids=["noise", "blanks"],
)
def test_noise_and_blanks_are_drawn_once_whatever_ticket_is_shown(vectors: Any) -> None:
    """And never from what is kept. The refusal looks at nothing that they are."""
    blank = {"blank": 0.1} if isinstance(vectors[""], Bounded) else {}
    scheme = SCHEMES["semi-honest"](range(40), vectors, **blank)
    client = Suspended(scheme, 0, lambda task: np.zeros(4))
    client.start()
    request = encode(Task(bytes(32), TASK))
    reply = client.receive(request)
    assert client.step(client.shown[1], request)[1] == reply
    for _ in range(8):
        with pytest.raises(RemoteProtocolError, match="that is drawn once"):
            client.step(client.shown[0], request)


# Records of other kinds


@pytest.mark.parametrize("adversary", FIVE)
def test_a_masked_input_that_is_asked_for_again_is_no_second_contribution(adversary: str) -> None:
    contexts: list[bytes] = []

    def once(context: bytes) -> None:
        if context in contexts:
            raise RemoteProtocolError("asked again")
        contexts.append(context)

    play = of_masking(adversary).to("masked-input")
    client, request = play.clients[0], play.requests[0]
    client.more["once"] = once
    reply = client.receive(request)
    assert client.step(client.shown[-2], request)[1] == client.step(client.shown[-1], request)[1] == reply
    assert len(contexts) == 1


def test_what_the_journal_refuses_is_not_recorded_as_answered() -> None:
    def once(context: bytes) -> None:
        raise RemoteProtocolError("asked again")

    play = of_masking("semi-honest").to("masked-input")
    client, request = play.clients[0], play.requests[0]
    with pytest.raises(RemoteProtocolError, match="asked again"):
        client.step(client.shown[-1], request, once=once)
    assert client.receive(request)


def test_the_journal_is_written_before_the_answer_is_recorded() -> None:
    """The other way round, a crash between the two would have the next try leave without an entry."""
    order: list[str] = []

    class Ordered(InMemory):
        def answer(self, name: bytes, step: int, digest: bytes) -> bytes | None:
            order.append(f"step {step}")
            return super().answer(name, step, digest)

    scheme = FIVE["semi-honest"]
    more = {"record": Ordered(), "once": lambda context: order.append("journal")}
    session(scheme, {u: suspended(scheme, u, **(more if u == 0 else {})) for u in IDS}).to("done")
    assert order == ["step 1", "step 2", "journal", "step 3", "step 4"]


@pytest.mark.parametrize("adversary", FIVE)
def test_a_rule_for_like_sums_records_a_set_once_whatever_comes_again(adversary: str) -> None:
    kept: list[bytes] = []
    memory = in_memory()

    def record(decide: Any) -> None:
        def decided(entries: Any) -> bytes | None:
            new = decide(entries)
            kept.extend([] if new is None else [new])
            return new

        memory(decided)

    rule = Alike(lambda task: OWN_INPUT, record, SigningKey(bytes(32)), new=True)
    scheme = FIVE[adversary]
    play = session(scheme, {u: suspended(scheme, u, **({"alike": rule} if u == 0 else {})) for u in IDS})
    client = play.to("done").clients[0]
    assert len(kept) == 3  # that all is new, that a vector left, and the set
    for before, after, message in zip(client.shown, client.shown[1:], client.asked, strict=False):
        assert client.step(before, message)[1] == client.step(after, message)[1]
    assert len(kept) == 3


@pytest.mark.parametrize("name", ["split", "split-semi-honest"])
def test_what_relays_are_told_of_like_sums_is_the_same_when_it_is_asked_for_again(name: str) -> None:
    rule = Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes(32)))
    scheme = SCHEMES[name](IDS, MIXED)
    play = session(scheme, {u: suspended(scheme, u, **({"alike": rule} if u == 0 else {})) for u in IDS})
    client, task = play.to("shares").clients[0], play.requests[0]
    shares = play.answer().answers[0]
    assert client.step(client.shown[0], task)[1] == shares


def test_a_rule_for_like_sums_holds_at_every_step() -> None:
    rule = Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes(32)))
    scheme = FIVE["active"]
    for expected in (set(IDS), set(IDS) - {0}):
        clients = {u: suspended(scheme, u, **({"alike": rule} if u == 0 else {})) for u in IDS}
        play = session(scheme, clients, {"masked-input": {1} if expected != set(IDS) else set()})
        play.forgiven = [0]
        play.to("done")
    assert "too near" in str(play.died[0])
    client = clients[0]
    client.more.pop("alike")
    with pytest.raises(LocalProtocolError, match="this session was begun with a rule for like sums"):
        client.step(client.shown[-1], b"")


# What a ticket is


@pytest.mark.parametrize("name", ["ckks-keep", "ckks-release", "decoys"])
def test_a_scheme_whose_sessions_cannot_be_suspended_says_so_at_once(name: str) -> None:
    scheme = SCHEMES[name](range(4), {"": Counts(length=4, maximum=9)})
    record = InMemory()
    with pytest.raises(LocalProtocolError, match="a client's session of this scheme cannot be suspended"):
        tickets.begin(scheme, 0, record=record, identity=identities(range(4))[1][0])
    assert record._keys == record._answers == {}


def test_no_vectors_are_too_long_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    play = of_masking("semi-honest").to("advertise-keys")
    client = play.clients[0]
    monkeypatch.setattr(tickets, "MAX_SEALED", 200)
    with pytest.raises(LocalProtocolError, match="bytes cannot be suspended: it is"):
        client.receive(play.requests[0])
    assert client.record.answered(msgspec.msgpack.decode(client.shown[0])[2], 1) is None


def test_secrets_are_neither_printed_nor_pickled() -> None:
    scheme = FIVE["active"]
    client = scheme.client(0, lambda task: INPUTS[0], identity=identities(IDS)[1][0], rng=seeded(0))
    client.start()
    client.receive(encode(Task(bytes(32), TASK)))
    from secagg.masking.kept import _kept

    kept = _kept(client._state, [])
    assert repr(kept) == "_ShareKeys(<hidden>)"
    for secret in (kept, InMemory()):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(secret)
    assert isinstance(client, StatefulClient)


def test_a_client_with_something_around_it_cannot_be_suspended_either() -> None:
    class Mine:
        def client(self, *given: Any, **more: Any) -> AroundClient:
            return AroundClient(FIVE["semi-honest"].client(*given, **more))

    with pytest.raises(LocalProtocolError, match="cannot be suspended"):
        tickets.begin(Mine(), 0, record=InMemory())


@pytest.mark.parametrize(("adversary", "each"), [("semi-honest", 175), ("active", 245)])
def test_the_sizes_are_what_the_page_says(adversary: str, each: int) -> None:
    """Bytes a neighbour, the reply included that may be asked for again; besides, the packed vector: while it
    waits, and masked until the next message has come.
    """
    spec, sizes = {"": Counts(length=1000, maximum=2**20)}, {}
    for n in (10, 20):
        scheme = SCHEMES[adversary](range(n), spec)
        keys = identities(range(n))[1]
        clients = {
            u: Suspended(scheme, u, lambda task: np.zeros(1000, int), identity=keys[u]) for u in range(n)
        }
        server = scheme.server(range(n), TASK, roster=identities(range(n))[0])
        shown = Session(server, clients).to("done").clients[0].shown
        packed = [0, *[1000 * scheme.ring_bits()[""] // 8] * 3, *[0] * len(scheme.finishing_rounds)]
        sizes[n] = [len(ticket) - vector for ticket, vector in zip(shown, packed, strict=True)]
    assert sizes[10][0] == sizes[20][0] < 200
    assert max(b - a for a, b in zip(sizes[10], sizes[20], strict=True)) <= 10 * each
    assert sizes[10][2] < 10 * each + 400


FROZEN = {
    "semi-honest": "15a9a074e47cb66346953e79b9a6fe7ec9f5e8b8a4568b391d7d34ef376562dc",
    "active": "46e5e4a935a401a7cf38ed0a3076a5f1066a81beb1b003c74d3f617f83b2df9d",
}


@pytest.mark.parametrize("adversary", FROZEN)
def test_the_form_of_tickets_is_frozen(adversary: str) -> None:
    """Sessions are open while a program is replaced: another form is another TICKET_VERSION. SHA-256 of all
    tickets of a session; what is drawn and sealed is the same each time here.
    """
    shown = of_masking(adversary).to("done").clients[0].shown
    assert hashlib.sha256(b"".join(shown)).hexdigest() == FROZEN[adversary]
