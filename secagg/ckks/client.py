"""A client of a CKKS session: one type for each thing it can await, as in `masking.client`.

One client makes the secret key, and seals it for the others through the server. All encrypt under it; who is
asked to decrypts the sum. Every client can read every upload: they do not see them, the server does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from secagg.ckks.derived import (
    AdvertisedKeys,
    flooding_key,
    key_statement,
    makers_of,
    releasers_of,
    seal_data,
    seal_key,
    secret_key,
    secret_statement,
    session_id,
    upload_digest,
    upload_statement,
)
from secagg.ckks.flooding import as_bytes, flood, slot_flooding
from secagg.ckks.messages import (
    AdvertiseCkksKey,
    Ciphertexts,
    CiphertextsRequest,
    Decrypted,
    DecryptRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.ckks.packing import pack_residues, residues_of_key, unpack_residues
from secagg.ckks.seal import Keys
from secagg.crypto import (
    AE_OVERHEAD,
    KEY_BYTES,
    NeverPickled,
    Rng,
    SecretKey,
    seal,
    unseal,
)
from secagg.encoding import real_vector
from secagg.errors import ClientId, RemoteProtocolError
from secagg.identity import check_signed
from secagg.inputs import checked
from secagg.session import Aggregate
from secagg.specs import Bounded, weight_of
from secagg.states import AwaitingTask, StatefulClient, Terms
from secagg.wire import Raw, Task, decode, encode

if TYPE_CHECKING:
    from secagg.ckks import CKKS


def _check_signed(
    terms: Terms[CKKS], v: ClientId, statement: Callable[[], bytes], signature: bytes, what: str
) -> None:
    check_signed(
        terms.roster,
        v,
        statement,
        signature,
        what,
        f"{what} not signed by client {v} of this roster for this session",
    )


def advertise_key(terms: Terms[CKKS], rng: Rng) -> tuple[AwaitingKeys, AdvertiseCkksKey]:
    c_sk = SecretKey.generate(rng)
    statement = key_statement(*terms.of_keys(), terms.u, c_sk.public)
    return AwaitingKeys(terms, c_sk, rng), AdvertiseCkksKey(c_sk.public, terms.sign(statement))


@dataclass(frozen=True, slots=True)
class AwaitingKeys(NeverPickled):
    """After AdvertiseCkksKey."""

    terms: Terms[CKKS]
    c_sk: SecretKey = field(repr=False)
    rng: Rng = field(repr=False)

    def make_key(self, request: ShareCkksKeyRequest) -> tuple[AwaitingCiphertextsRequest, ShareCkksKey]:
        """Make a key, if u is one of the makers.

        Raises: RemoteProtocolError unless U1 has m_min to n members, u's own key among them, no key twice
        and, with a roster, each signed.
        """
        keys, terms = request.keys, self.terms
        self._check(keys)
        sid = session_id(terms.nonce, terms.parameters.digest(), terms.context, keys)
        makers = makers_of(keys)
        # A maker seals its key for everybody; the others open what the makers sealed, and no more.
        agreed = {v: self.c_sk.agree(keys[v][0]) for v in (keys if terms.u in makers else makers)}
        own, answer = None, ShareCkksKey(b"", {}, b"")
        if terms.u in makers:
            own, answer = self._make(sid, {v: agreed[v] for v in sorted(keys) if v != terms.u})
        opens = {v: seal_key(agreed[v], sid, v, terms.u) for v in makers if v != terms.u}
        return AwaitingCiphertextsRequest(terms, sid, frozenset(keys), opens, own), answer

    def _check(self, keys: AdvertisedKeys) -> None:
        terms, parameters = self.terms, self.terms.parameters
        if keys.get(terms.u, (b"", b""))[0] != self.c_sk.public:
            raise RemoteProtocolError("the server's key list does not hold this client's own keys")
        if not parameters.m_min <= len(keys) <= parameters.clients:
            raise RemoteProtocolError(
                f"{len(keys)} clients advertised keys; it takes {parameters.m_min} to {parameters.clients}"
            )
        if len({c_pk for c_pk, _ in keys.values()}) != len(keys):
            raise RemoteProtocolError("the server's key list holds one key twice")
        of_keys = terms.of_keys()
        for v, (c_pk, signature) in keys.items():
            statement = partial(key_statement, *of_keys, v, c_pk)
            _check_signed(terms, v, statement, signature, "a key that is")

    def _make(self, sid: bytes, agreed: Mapping[ClientId, bytes]) -> tuple[SessionKey, ShareCkksKey]:
        """A fresh CKKS key under a fresh K, and K for each v. agreed: of every other client of U1."""
        u, plan = self.terms.u, self.terms.parameters.plan
        made = Keys(plan.ring, plan.scale)
        K = self.rng(KEY_BYTES)
        plaintext = made.secret().tobytes()
        secret = seal(secret_key(K, sid, u), plaintext, sid, self.rng)
        sealed = {
            v: seal(seal_key(shared, sid, u, v), K, seal_data(sid, u, v, secret), self.rng)
            for v, shared in agreed.items()
        }
        signature = self.terms.sign(secret_statement(sid, u, secret))
        return SessionKey(K, made), ShareCkksKey(secret, sealed, signature)


@dataclass(frozen=True, slots=True)
class SessionKey(NeverPickled):
    """K, and the CKKS key that was sealed under it."""

    K: bytes = field(repr=False)
    keys: Keys = field(repr=False)


@dataclass(frozen=True, slots=True)
class AwaitingCiphertextsRequest(NeverPickled):
    """After ShareCkksKey. Used once.

    opens: what opens K, by maker. own: the key u made, if it did.
    """

    terms: Terms[CKKS]
    sid: bytes
    U1: frozenset[ClientId]
    opens: Mapping[ClientId, bytes] = field(repr=False)
    own: SessionKey | None = field(repr=False)

    def encrypt(
        self, request: CiphertextsRequest, slots: NDArray[np.float64]
    ) -> tuple[AwaitingDecryptRequest, Ciphertexts]:
        """Raises: RemoteProtocolError unless a maker sealed its key for u, in this session."""
        key = self._open(request)
        plan, u = self.terms.parameters.plan, self.terms.u
        each = plan.ring.slots
        residues = np.stack([key.keys.encrypt(slots[i : i + each]) for i in range(0, len(slots), each)])
        packed = pack_residues(plan.ring, residues)
        made = upload_digest(self.sid, u, packed)
        signature = self.terms.sign(upload_statement(self.sid, u, made))
        state = AwaitingDecryptRequest(self.terms, self.sid, self.U1, key)
        return state, Ciphertexts(memoryview(packed), made, signature)

    def _open(self, request: CiphertextsRequest) -> SessionKey:
        u, maker, plan = self.terms.u, request.maker, self.terms.parameters.plan
        # Whose key it is comes first: nothing of it is opened before.
        statement = partial(secret_statement, self.sid, maker, request.secret)
        _check_signed(self.terms, maker, statement, request.signature, "a session key that is")
        if maker == u and self.own is not None:
            return self.own  # sealed for the others alone
        if maker not in self.opens or u not in request.sealed:
            raise RemoteProtocolError(
                "the server passes on a session key that no client was to make for this one"
            )
        # Before it is opened: whoever reads the residues takes their number as given.
        if len(request.secret) != plan.ring.key_bytes + AE_OVERHEAD:
            raise RemoteProtocolError("a session key of another ring")
        data = seal_data(self.sid, maker, u, request.secret)
        K = unseal(self.opens[maker], request.sealed[u], data)
        secret = K and unseal(secret_key(K, self.sid, maker), request.secret, self.sid)
        if not K or not secret:
            raise RemoteProtocolError("a session key that does not open")
        return SessionKey(K, Keys(plan.ring, plan.scale, residues_of_key(plan.ring, secret)))


@dataclass(frozen=True, slots=True)
class AwaitingDecryptRequest(NeverPickled):
    """After Ciphertexts. Used once: a second sum under the same key is refused, whatever is asked for."""

    terms: Terms[CKKS]
    sid: bytes
    U1: frozenset[ClientId]
    key: SessionKey = field(repr=False)

    def decrypt(self, request: DecryptRequest) -> tuple[Aggregate | None, Decrypted]:
        """The sum, where u is to keep it; and what leaves: the flooded sum, where u is to release it.

        Raises: RemoteProtocolError unless u is in the sum, m_min clients are, and exactly who is to decrypt
        is sent it.
        """
        parameters, plan, u = self.terms.parameters, self.terms.parameters.plan, self.terms.u
        survivors = frozenset(request.survivors)
        if u not in survivors:
            raise RemoteProtocolError("the server counts this client as dropped and asks it all the same")
        if not survivors <= self.U1:
            raise RemoteProtocolError("the server names a survivor that had advertised no keys")
        if len(survivors) < parameters.m_min:
            raise RemoteProtocolError(f"{len(survivors)} clients survive, {parameters.m_min} are needed")
        # Who is not to decrypt is sent nothing: it is one decryption less that a server could ask for.
        if parameters.ending == "release" and u not in releasers_of(survivors):
            if len(request.residues):
                raise RemoteProtocolError("a sum for a client that is not to decrypt it")
            return None, Decrypted(memoryview(b""))
        residues = unpack_residues(plan.ring, plan.ciphertexts, request.residues)
        slots = np.concatenate([self.key.keys.decrypt(each) for each in residues])[: plan.slots]
        if parameters.ending == "keep":
            return parameters.aggregate(survivors, plan.from_slots(slots)), Decrypted(memoryview(b""))
        return None, Decrypted(memoryview(as_bytes(self._flood(slots, request))))

    def _flood(self, slots: NDArray[np.float64], request: DecryptRequest) -> NDArray[np.int64]:
        parameters = self.terms.parameters
        std = slot_flooding(parameters.plan, parameters.clients, parameters.flood_bits)
        return flood(slots, std, flooding_key(self.key.K, self.sid, request.residues))


_State = AwaitingTask | AwaitingKeys | AwaitingCiphertextsRequest | AwaitingDecryptRequest


class CKKSClient(StatefulClient):
    """One client's side of a CKKS session (`session.ClientSession`)."""

    _parameters: CKKS

    def _step(self, state: _State, message: Raw) -> bytes:
        match state:
            case AwaitingTask():
                return self._take_task(decode(Task, message))
            case AwaitingKeys():
                self._state, answer = state.make_key(decode(ShareCkksKeyRequest, message))
                return encode(answer)
            case AwaitingCiphertextsRequest():
                slots = self._take_encoded()
                self._state, upload = state.encrypt(decode(CiphertextsRequest, message), slots)
                if state.terms.like is not None:
                    state.terms.like.once()  # the server alone decides which sum is decrypted
                self._leaving()
                return encode(upload)
            case AwaitingDecryptRequest():
                self.result, decrypted = state.decrypt(decode(DecryptRequest, message))
                self.done = True
                return encode(decrypted)

    def _take_task(self, task: Task) -> bytes:
        terms = self._take(task)
        self._encoded = self._slots(task.task)
        self._state, key = advertise_key(terms, self._rng)
        return encode(key)

    def _slots(self, task: bytes) -> NDArray[np.float64]:
        parameters = self._parameters
        if parameters.ending == "keep":
            return parameters.plan.to_slots(parameters.centred(self._encode_inputs(task)))
        specs = parameters.vectors
        values = checked(parameters, self._vectors(task))
        weight, heaviest = weight_of(specs, values)
        for name, spec in specs.items():
            scale = weight / heaviest / spec.bound if isinstance(spec, Bounded) else 1.0
            values[name], self.clipping[name] = real_vector(spec, values[name], scale)
        return parameters.plan.to_slots(values)
