"""Sessions of decoys: what comes of them, what is hidden in them, and what either side refuses."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from secagg import (
    Among,
    Bounded,
    Counts,
    Decoys,
    LocalProtocolError,
    Masking,
    Policy,
    Recorded,
    RemoteProtocolError,
    TooFewClients,
    accept,
)
from secagg import run as run_session
from secagg.ckks.messages import Decrypted
from secagg.ckks.packing import pack_residues, unpack_residues
from secagg.crypto import SIGNATURE_BYTES
from secagg.decoys.derived import candidates_digest, candidates_statement
from secagg.decoys.messages import Candidates
from secagg.wire import Task, decode, encode
from tests.play import TASK, Course, Play, among, identities, rounding_seed, run, seeded
from tests.secagg.helpers import (
    MIXED,
    assert_sum_of,
    client_refuses,
    codes_of,
    mixed_inputs,
    server_refuses,
    with_decoys,
)

FOUR = with_decoys(range(4), MIXED)
UNSIGNED = with_decoys(range(4), MIXED, roster=None)
INPUTS = mixed_inputs(range(4))
COURSES = {scheme.digest(): Course(Play(scheme, INPUTS)) for scheme in (FOUR, UNSIGNED)}


def at(scheme: Decoys, round: str, *, answered: bool = False) -> Play:
    return COURSES[scheme.digest()].at(round, answered=answered)


# What comes of a session


def test_the_sum_is_that_of_the_true_vectors_bit_for_bit_whatever_the_decoys_are() -> None:
    other = {u: {**x, "update": -x["update"], "counts": [9, 9, 9], "weight": 4} for u, x in INPUTS.items()}
    among = {u: Among(x, [other[u], INPUTS[(u + 1) % 4]]) for u, x in INPUTS.items()}
    seeds = {u: rounding_seed(u) for u in INPUTS}
    due = codes_of(FOUR, INPUTS, INPUTS)
    for scheme, inputs in ((UNSIGNED, among), (Masking.for_cohort(4, MIXED), INPUTS)):
        total = run(scheme, inputs, rounding_seeds=seeds, task=TASK)
        assert {name: x.tolist() for name, x in total.codes.items()} == {
            n: x.tolist() for n, x in due.items()
        }


def test_candidates_fill_several_polynomials() -> None:
    long = Bounded(length=5000, bound=1.0, bits=12)
    x = {u: np.random.default_rng(u).uniform(-1, 1, 5000) for u in range(3)}
    scheme = Decoys.for_cohort(3, long, candidates=2)
    assert scheme.plan.polynomials == 2
    total = run(scheme, x)
    assert np.abs(total.mean[""] - sum(x.values()) / 3).max() <= total.error_bound[""] < 1e-3


def test_who_vanishes_after_its_upload_is_in_the_sum_and_with_nobody_left_there_is_none() -> None:
    total = Play(FOUR, INPUTS, drop={"input": {2}, "decrypt": {0}}).finish()
    assert_sum_of(FOUR, INPUTS, total, {0, 1, 3})
    with pytest.raises(TooFewClients, match="0 clients left in round decrypt, 1 needed"):
        Play(FOUR, INPUTS, drop={"decrypt": set(INPUTS)}).finish()


def test_the_server_needs_no_tenseal_and_a_client_says_that_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    play = at(FOUR, "input", answered=True)
    monkeypatch.setitem(sys.modules, "tenseal", None)
    play.close()
    assert play.server.round == "decrypt"
    with pytest.raises(LocalProtocolError, match="needs TenSEAL: pip install"):
        FOUR.client(0, lambda task: INPUTS[0], identity=identities(range(4))[1][0])


# What is hidden


def shuffled(rng: Any, inputs: Any = None) -> Any:
    """What a client has encoded, once it has the task."""
    shown = among(UNSIGNED, INPUTS[0]) if inputs is None else inputs
    client = UNSIGNED.client(0, lambda task: shown, rounding_seed=rounding_seed(0), rng=rng)
    client.start()
    client.receive(encode(Task(bytes(32), TASK)))
    return client._encoded


def test_the_true_candidate_is_anywhere_alike_and_so_is_every_decoy() -> None:
    rng = seeded(0)
    decoys = [{**INPUTS[0], "weight": w} for w in (2, 3)]
    orders = Counter(
        tuple(int(codes["weight"][0]) for codes in shuffled(rng, Among(INPUTS[0], decoys)).codes)
        for _ in range(600)
    )
    assert len(orders) == 6
    assert max(abs(count - 100) for count in orders.values()) < 40  # four deviations


def test_the_selector_says_where_it_is_to_who_holds_the_key_and_to_nobody_else() -> None:
    play = at(FOUR, "input")
    true = {u: client._encoded.true for u, client in play.clients.items()}
    play.answer()
    for u, answer in play.answers.items():
        message: Any = decode(Candidates, answer)
        plan, keys = FOUR.plan, play.clients[u]._state.key.keys
        selectors = unpack_residues(plan.ring, plan.candidates, message.selectors)
        numbers = [keys.decrypt(each).tolist() for each in selectors]
        due = [[int(j == true[u])] + [0] * (plan.ring.degree - 1) for j in range(plan.candidates)]
        assert numbers == due


def test_equal_candidates_are_rounded_apart() -> None:
    spec = Bounded(length=200, bound=1.0, bits=4)
    x = np.full(200, 0.3)
    scheme = Decoys.for_cohort(3, spec, candidates=3)
    client = scheme.client(0, lambda task: Among(x, [x, x]))
    client.start()
    client.receive(encode(Task(bytes(32), TASK)))
    rows = [codes[""].tolist() for codes in client._encoded.codes]
    assert len({tuple(row) for row in rows}) == 3


def test_what_is_true_is_in_no_repr() -> None:
    assert repr(shuffled(seeded(0))) == "Shuffled()"
    assert repr(Among(INPUTS[0], [INPUTS[1]])) == "Among(<hidden>, 1 decoys)"


def test_clipping_is_told_of_the_true_vectors_alone() -> None:
    decoy = {**INPUTS[1], "update": np.full(5, 7.0)}
    client = UNSIGNED.client(0, lambda task: Among(INPUTS[0], [decoy, decoy]))
    client.start()
    client.receive(encode(Task(bytes(32), TASK)))
    assert client.clipping["update"].coordinates == 0


def test_who_has_the_sum_and_the_candidates_finds_every_true_one() -> None:
    """However alike they look: why the clients keep the sum. n K unknown selectors, and d equations."""
    n, K, d = 6, 4, 40
    rng = np.random.default_rng(0)
    scheme = Decoys.for_cohort(n, Bounded(length=d, bound=1.0), candidates=K)
    inputs = {u: Among(*(lambda x: (x[0], list(x[1:])))(rng.uniform(-1, 1, (K, d)))) for u in range(n)}
    recorded: list[Recorded] = []

    def instrument(server: Any) -> Any:
        recorded.append(Recorded(server))
        return recorded[0]

    total = run_session(scheme, inputs, instrument=instrument)
    shown = {
        u: np.stack([x.ravel()[:d] for x in scheme.plan.unpack(decode(Candidates, message).vectors)])
        for round, u, message in recorded[0].view.received
        if round == "input"
    }
    candidates = np.concatenate([shown[u] for u in range(n)])
    chosen = np.linalg.lstsq(candidates.T.astype(float), total.codes[""], rcond=None)[0].reshape(n, K)
    assert np.abs(np.sort(chosen)[:, :-1]).max() < 1e-6
    for u, j in enumerate(chosen.argmax(axis=1)):
        assert np.abs(shown[u][j] - inputs[u][""] * (2**15 - 1)).max() <= 1


# What a client gives


def test_among_is_the_true_vectors_in_a_session_of_another_scheme() -> None:
    among = {u: Among(x, [INPUTS[0]] * 5) for u, x in INPUTS.items()}
    scheme = Masking.for_cohort(4, MIXED)
    assert run(scheme, among).sum["counts"].tolist() == run(scheme, INPUTS).sum["counts"].tolist()
    bare = Among([1.0, 2.0], [[3.0, 4.0]])
    assert (dict(bare), len(bare), bare.decoys) == ({"": [1.0, 2.0]}, 1, ({"": [3.0, 4.0]},))


@pytest.mark.parametrize("count", [None, 0, 1, 3])
def test_decoys_are_as_many_as_are_needed(count: int | None) -> None:
    inputs = INPUTS[0] if count is None else Among(INPUTS[0], [INPUTS[1]] * count)
    with pytest.raises(
        LocalProtocolError, match=f"^{count or 0} decoys beside .*, and 2 are needed: give them"
    ):
        shuffled(seeded(0), inputs)


def test_a_decoy_is_held_to_the_specification() -> None:
    wrong = {**INPUTS[1], "counts": [10, 0, 0]}
    with pytest.raises(LocalProtocolError, match=r"vector 'counts' holds 10, not in 0\.\.9"):
        shuffled(seeded(0), Among(INPUTS[0], [wrong, INPUTS[1]]))


# What is refused of an offer


def test_no_policy_takes_part_that_does_not_name_it() -> None:
    offer = UNSIGNED.offer()
    for policy in (
        Policy(),
        Policy(schemes=frozenset({"masking", "ckks", "plain"}), adversary="semi-honest"),
    ):
        with pytest.raises(RemoteProtocolError, match=r'offers the scheme decoys; .*\{"decoys"\}'):
            accept(policy, offer)
    told = Policy(schemes=frozenset({"decoys"}), adversary="semi-honest")
    assert accept(told, offer) == UNSIGNED
    with pytest.raises(RemoteProtocolError, match="trusts it to follow the protocol"):
        accept(replace(told, adversary="active"), offer)
    with pytest.raises(RemoteProtocolError, match="insists that they release it"):
        accept(replace(told, ending="release"), offer)


IMPOSSIBLE = {
    "released": (
        {"ending": "release"},
        "against whoever learns the sum the true candidate is found by linear",
    ),
    "another ending": ({"ending": "other"}, "hide nothing"),
    "an active server": ({"adversary": "active"}, "not for a server that is active"),
    "one candidate": ({"candidates": 1}, r"candidates 1 is not in 2\.\.64"),
    "half a candidate": ({"candidates": 2.5}, "candidates 2.5 is not an integer"),
    "half a modulus": ({"modulus": 12289.5}, "modulus 12289.5 is not an integer"),
    "too many": ({"candidates": 65}, r"candidates 65 is not in 2\.\.64"),
    "another modulus": ({"modulus": 12289}, "plaintexts modulo 12289 in degree .*: these decoys take"),
    "another degree": ({"degree": 8192}, "in degree 8192, .*: these decoys take"),
    "other primes": (
        {"prime_bits": [30, 30]},
        r"primes of \[30, 30\] bits: these decoys take",
    ),
    "other candidates": ({"candidates": 64}, ": these decoys take"),
}


@pytest.mark.parametrize(("fields", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_session_is_refused(fields: Any, words: str) -> None:
    scheme = Decoys.for_cohort(300, Bounded(length=3, bound=1.0), candidates=3)
    with pytest.raises(LocalProtocolError, match=words):
        replace(scheme, **fields)


def test_so_many_clients_are_refused_before_a_ring_is_looked_for() -> None:
    with pytest.raises(LocalProtocolError, match="2147483648 clients is not in 1"):
        Decoys.for_cohort(2**31, MIXED)


@pytest.mark.parametrize("fields", [{"ending": "release"}, {"adversary": "active"}, {"candidates": 1}])
def test_for_cohort_refuses_what_an_offer_may_not_hold(fields: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"hide nothing|not for a server|candidates 1"):
        Decoys.for_cohort(4, MIXED, **fields)


def test_the_explanation_says_what_is_seen_and_that_there_is_a_better_scheme() -> None:
    text = FOUR.explain()
    for words in (
        "decoys, 4 clients of 3 candidates each, who keep the sum: an experiment",
        "the server sees each true vector among its decoys",
        "a weight that all candidates of a client share is in the clear",
        "no client on its side; keys are signed",
    ):
        assert words in text
    assert "in the clear" not in Decoys.for_cohort(4, Counts(length=1, maximum=1)).explain().split("\n")[-2]
    assert "KEYS ARE NOT SIGNED" in UNSIGNED.explain()
    assert "ckks with the ending keep shows it no candidate" in FOUR.against


# What is refused of a message


def resigned(play: Play, u: int, message: Any, **fields: Any) -> Any:
    """Another upload of u's, digested and signed as if it were its own."""
    new = replace(message, **fields)
    made = candidates_digest(play.server._sid, u, new.vectors, new.selectors)
    signature = play.identities[u].key.sign(candidates_statement(play.server._sid, u, made))
    return replace(new, digest=made, signature=signature if play.scheme.roster else b"")


def too_large(message: Any) -> bytes:
    plan = FOUR.plan
    residues = unpack_residues(plan.ring, plan.candidates, message.selectors)
    residues[1, 1, 0, 5] = plan.ring.primes[0]
    return bytes(pack_residues(plan.ring, residues))


UPLOADS: dict[str, tuple[Any, str]] = {
    "another digest": (lambda p, m: replace(m, digest=bytes(32)), "candidates with another digest than"),
    "other candidates": (lambda p, m: replace(m, vectors=bytes(m.vectors)[::-1]), "another digest than"),
    "other selectors": (lambda p, m: replace(m, selectors=bytes(m.selectors)[::-1]), "another digest than"),
    "no signature": (lambda p, m: replace(m, signature=b""), "candidates that are without its signature"),
    "another's signature": (
        lambda p, m: replace(resigned(p, 1, m), digest=m.digest),
        "candidates that are without its signature",
    ),
    "too few candidates": (
        lambda p, m: resigned(p, 0, m, vectors=m.vectors[:-1]),
        "candidates of .* bytes, not",
    ),
    "too few selectors": (
        lambda p, m: resigned(p, 0, m, selectors=m.selectors[:-1]),
        "ciphertexts of .* bytes",
    ),
    "a residue too large": (lambda p, m: resigned(p, 0, m, selectors=too_large(m)), "not below its prime"),
}


@pytest.mark.parametrize(("change", "words"), UPLOADS.values(), ids=UPLOADS)
def test_an_upload_that_is_not_what_it_should_be_is_refused_and_adds_nothing(change: Any, words: str) -> None:
    play = at(FOUR, "input", answered=True)
    server_refuses(play, "input", lambda message: change(play, message), words)


def test_where_nothing_is_signed_a_signature_is_refused() -> None:
    play = at(UNSIGNED, "input", answered=True)
    signed = bytes(SIGNATURE_BYTES)
    server_refuses(play, "input", lambda m: replace(m, signature=signed), "where nothing is signed")


def test_nobody_releases_a_sum() -> None:
    play = at(FOUR, "decrypt", answered=True)
    server_refuses(play, "decrypt", lambda m: Decrypted(memoryview(b"1")), "was not to release it")


REQUESTS: dict[str, tuple[Any, str]] = {
    "too short": (lambda m: replace(m, residues=m.residues[:-1]), "ciphertexts of .* bytes, not"),
    "without this client": (lambda m: replace(m, survivors=[1, 2, 3]), "counts this client as dropped"),
    "a stranger": (lambda m: replace(m, survivors=[0, 1, 2, 9]), "had advertised no keys"),
    "too few": (lambda m: replace(m, survivors=[0, 1]), "2 clients survive, 3 are needed"),
}


@pytest.mark.parametrize(("change", "words"), REQUESTS.values(), ids=REQUESTS)
def test_a_sum_that_a_client_may_not_see_is_refused(change: Any, words: str) -> None:
    client_refuses(at(FOUR, "decrypt"), "decrypt", change, words)


def test_one_selector_that_is_not_one_spoils_the_sum_and_nobody_notices() -> None:
    """That a client chose one candidate, and not two, is not checked: correctness is for honest clients."""
    play = at(UNSIGNED, "input", answered=True)
    plan, keys = UNSIGNED.plan, play.clients[0]._state.key.keys

    def both(message: Any) -> Any:
        ones = np.stack([keys.encrypt(1)] * plan.candidates)
        return resigned(play, 0, message, selectors=bytes(pack_residues(plan.ring, ones)))

    message = decode(Candidates, play.answers[0])
    play.answers[0] = encode(both(message))
    total = play.finish()
    worst = 9 * (UNSIGNED.candidates - 1)  # of each decoy of `among`
    assert total.sum["counts"][1] == sum(INPUTS[u]["counts"][1] for u in INPUTS) + worst
