"""What gives a session's secret key away, or one client's vector: whom flooding stops, and whom it does not.

Li and Micciancio (EUROCRYPT 2021): who has the encrypted sum (c0, c1) and what it decrypts to exactly, noise
and all, has one linear equation for the key, c0 + c1 s = m. Here the decisive step is made, with the real
ciphertexts of a real session: without flooding it gives the key, with what clients release it does not.

The attacks that succeed are those of a server that does not follow the protocol, or of a client on its side.
CKKS is not for such a server, and `docs/threats.md` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secagg import Bounded, LocalProtocolError, RemoteProtocolError
from secagg.ckks.flooding import from_grid, of_bytes
from secagg.ckks.messages import Decrypted, DecryptRequest, ShareCkksKey, ShareCkksKeyRequest
from secagg.ckks.packing import pack_residues, unpack_residues
from secagg.wire import decode, encode
from tests.play import Play, assert_same_codes, changed
from tests.secagg.helpers import codes_of, keeping, releasing
from tests.secagg.helpers_ckks import (
    coefficients_of,
    keys_of,
    polynomial,
    residues_of,
    secret_coefficients,
    slots_of,
    uploaded,
)

N = 4096
IDS = range(4)
SPEC = Bounded(length=N, bound=1.0, bits=8)
INPUTS = {u: {"x": np.random.default_rng(u).uniform(-1, 1, N)} for u in IDS}


class Attacked(Play):
    """A session about to decrypt. uploads: what the server has of each client.

    One ciphertext, and one prime where it is released: residues need no joining.
    """

    def __init__(self, make: Any) -> None:
        scheme = make(IDS, {"x": SPEC})
        super().__init__(scheme, INPUTS)
        self.plan, self.q = scheme.plan, scheme.plan.ring.primes[0]
        self.uploads = {u: uploaded(scheme, m) for u, m in self.to("input").answer().answers.items()}
        self.close()

    def sum_sent_out(self) -> Any:
        """(1, 2, 1, N) residues."""
        request = decode(DecryptRequest, self.requests[0])
        return unpack_residues(self.plan.ring, self.plan.ciphertexts, request.residues)

    def instead(self, ciphertexts: Any) -> Callable[[Any], DecryptRequest]:
        """The request for these ciphertexts, from a server that says they are the sum."""
        packed = memoryview(pack_residues(self.plan.ring, ciphertexts))
        return lambda request: DecryptRequest(request.survivors, packed)

    def released(self, u: int, request: bytes) -> Any:
        """(N,) slots, as client u lets them out."""
        answer = decode(Decrypted, self.clients[u].receive(request))
        slots = of_bytes(answer.released, self.plan.slots)
        assert slots is not None
        return from_grid(slots)

    def solved(self, ciphertext: Any, slots: Any) -> Any:
        """s = (m - c0) / c1 modulo q: the key, if these are the slots of m to the last unit."""
        m = residues_of(self.plan.ring, np.rint(polynomial(self.plan.ring, slots) * self.plan.scale))
        c0, c1 = ciphertext[:, 0].astype(object)
        inverses = np.array([pow(c, -1, self.q) for c in c1.tolist()], object)
        s = (m.astype(object) - c0) * inverses % self.q
        return coefficients_of(self.plan.ring, s.astype(np.uint64))


# Li and Micciancio


@pytest.fixture(scope="module")
def session() -> Attacked:
    """A release: its sum is sent out and not yet decrypted. Each test has a client of its own."""
    return Attacked(releasing)


def test_a_sum_that_is_decrypted_without_flooding_gives_the_key_away(session: Attacked) -> None:
    """The control: what flooding is there to stop works here."""
    keys, (ciphertext,) = keys_of(session.clients[3]), session.sum_sent_out()
    s = session.solved(ciphertext, keys.decrypt(ciphertext))
    assert set(s) == {-1, 0, 1}
    assert (s == secret_coefficients(session.plan.ring, keys)).all()


def test_a_sum_that_is_released_flooded_does_not(session: Attacked) -> None:
    """The same session, ciphertext and step, with what a client releases in place of the exact sum."""
    keys, (ciphertext,) = keys_of(session.clients[0]), session.sum_sent_out()
    secret, exact = secret_coefficients(session.plan.ring, keys), keys.decrypt(ciphertext)
    slots = session.released(0, session.requests[0])
    assert np.abs(slots - exact).max() < 0.4 + 1 / 256  # the sum is there all the same
    s = session.solved(ciphertext, slots)
    assert np.count_nonzero(np.isin(s, [-1, 0, 1])) < 10
    assert np.count_nonzero(s == secret) < 10
    assert np.abs(s.astype(float)).mean() == pytest.approx(session.q / 4, rel=0.1)  # as of any polynomial


def test_the_flooding_of_a_coefficient_is_what_the_theorem_wants(session: Attacked) -> None:
    """sqrt(12 tau) 2^(s/2) e_ct, e_ct of the sum of n fresh ciphertexts: within six standard errors."""
    keys, (ciphertext,) = keys_of(session.clients[1]), session.sum_sent_out()
    exact, slots = keys.decrypt(ciphertext), session.released(1, session.requests[1])
    off = polynomial(session.plan.ring, slots - exact) * session.plan.scale
    e_ct = np.sqrt(2 * (len(IDS) * 10.5 + len(IDS) ** 2 / 12))
    assert np.std(off) == pytest.approx(np.sqrt(12) * 2**20 * e_ct, rel=0.07)


# A server that does not follow the protocol. No check can tell its questions from a sum: these succeed


@pytest.mark.parametrize("k", [32, 36, 40])
def test_an_active_server_takes_the_key_with_one_crafted_sum(k: int) -> None:
    """In release c0 = 0, c1 = 2^k decrypts to 2^k s, far above the flooding: all N coefficients of the key,
    and with it every upload that the server has.
    """
    play = Attacked(releasing)
    ring, crafted = play.plan.ring, np.zeros((1, 2, 1, N), np.uint64)
    crafted[0, 1] = 2**k  # a constant has the same value everywhere
    secret = secret_coefficients(ring, keys_of(play.clients[0]))
    slots = play.released(0, changed(DecryptRequest, play.requests[0], play.instead(crafted)))
    s = np.rint(polynomial(ring, slots) * play.plan.scale / 2**k).astype(int)
    assert set(s.tolist()) == {-1, 0, 1}
    assert (s == secret).all()
    at_s = residues_of(ring, s).astype(object)
    for u, upload in play.uploads.items():
        c0, c1 = upload[0, :, 0].astype(object)
        m = coefficients_of(ring, ((c0 + c1 * at_s) % play.q).astype(np.uint64)).astype(float)
        x = play.plan.from_slots(slots_of(ring, m) / play.plan.scale)["x"]
        assert np.abs(x - INPUTS[u]["x"]).max() < 1e-6  # nothing is flooded any more


@pytest.mark.parametrize("victim", [1, 3])
def test_an_active_server_has_one_clients_vector_decrypted_as_the_sum(victim: int) -> None:
    """In release: a client opens whatever the server says is the sum."""
    play = Attacked(releasing)
    request = changed(DecryptRequest, play.requests[0], play.instead(play.uploads[victim]))
    x = play.plan.from_slots(play.released(0, request))["x"]
    assert np.abs(x - INPUTS[victim]["x"]).max() <= play.plan.error("x")
    assert np.corrcoef(x, INPUTS[victim]["x"])[0, 1] > 0.999


def test_a_client_answers_one_request_for_a_sum_in_a_session() -> None:
    """Whatever was asked for: a second one is refused."""
    play = Attacked(releasing)
    play.released(0, changed(DecryptRequest, play.requests[0], play.instead(play.uploads[1])))
    with pytest.raises(LocalProtocolError, match="this session is over"):
        play.clients[0].receive(play.requests[0])


def test_where_clients_keep_the_sum_a_server_that_asks_for_another_gets_nothing_back() -> None:
    play = Attacked(keeping)
    crafted = np.zeros_like(play.uploads[0])
    crafted[:, 1] = 2**20
    for u, other in ((0, crafted), (1, play.uploads[2])):
        request = changed(DecryptRequest, play.requests[u], play.instead(other))
        assert not len(decode(Decrypted, play.clients[u].receive(request)).released)


def assert_opened(play: Any, keys: Any, upload: Any, u: int) -> None:
    """These ciphertexts hold client u's codes, and with them its vector."""
    plan = play.scheme.plan
    codes = plan.from_slots(np.concatenate([keys.decrypt(each) for each in upload])[: plan.slots])
    assert_same_codes(codes, codes_of(play.scheme, INPUTS, [u]))
    assert np.abs(codes["x"] / SPEC.levels - INPUTS[u]["x"]).max() <= 1 / SPEC.levels


def test_where_keys_are_not_signed_an_active_server_takes_a_clients_place() -> None:
    """It advertises a key of its own as client 3's, is given the session key, and opens the uploads."""
    play: Any = Play(keeping(IDS, {"x": SPEC}, roster=None), INPUTS).to("advertise-keys")
    impostor = play.scheme.client(3, lambda task: INPUTS[3])
    impostor.start()
    own = impostor.receive(play.requests[3])
    play.answer().answers[3] = own
    play.close()
    assert decode(ShareCkksKey, impostor.receive(play.requests.pop(3))).secret == b""  # makes none
    play.answer().answers[3] = encode(ShareCkksKey(b"", {}, b""))
    play.close()
    impostor.receive(play.requests.pop(3))
    for u, upload in play.answer().answers.items():
        assert_opened(play, keys_of(impostor), uploaded(play.scheme, upload), u)


def test_where_keys_are_signed_it_cannot() -> None:
    play, other = (Play(keeping(IDS, {"x": SPEC}), INPUTS).to("share-keys") for _ in range(2))
    keys, elsewhere = (decode(ShareCkksKeyRequest, it.requests[0]).keys for it in (play, other))
    own = (elsewhere[0][0], keys[3][1])  # some key, with the signature of client 3's
    for u, entry in ((0, own), (1, elsewhere[3])):  # or client 3's of another session
        with pytest.raises(RemoteProtocolError, match="a key that is not signed by client 3 of this roster"):
            play.clients[u].receive(encode(ShareCkksKeyRequest({**keys, 3: entry})))


# A client on the server's side


@pytest.mark.parametrize("make", [keeping, releasing])
def test_one_client_with_the_server_opens_every_upload(make: Any) -> None:
    """All clients have the one key, and the server has the uploads."""
    play = Attacked(make)
    keys = keys_of(play.clients[2])
    for u in IDS:
        if make is keeping:
            assert_opened(play, keys, play.uploads[u], u)
        else:
            x = play.plan.from_slots(keys.decrypt(play.uploads[u][0]))["x"]
            assert np.abs(x - INPUTS[u]["x"]).max() < 1e-6
