"""How the clients of a session come to share one secret key, of which the server learns nothing: the first
two answers of a client, and the opening of what the third request brings.

The first clients each make a key and seal it for all others through the server, which passes one of them on.
CKKS and the decoys share theirs so. Of the parameters this needs `m_min`, `clients`, `plan.ring` and
`keys(secret)`, which makes the scheme's own keys of a secret, or fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from secagg.ckks.derived import (
    AdvertisedKeys,
    key_statement,
    makers_of,
    seal_data,
    seal_key,
    secret_key,
    secret_statement,
    session_id,
)
from secagg.ckks.messages import (
    AdvertiseCkksKey,
    CiphertextsRequest,
    DecryptRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.ckks.packing import residues_of_key
from secagg.crypto import AE_OVERHEAD, KEY_BYTES, NeverPickled, Rng, SecretKey, seal, unseal
from secagg.errors import ClientId, RemoteProtocolError
from secagg.identity import check_signed
from secagg.states import Terms


def check_signed_of(
    terms: Terms[Any], v: ClientId, statement: Callable[[], bytes], signature: bytes, what: str
) -> None:
    check_signed(
        terms.roster,
        v,
        statement,
        signature,
        what,
        f"{what} not signed by client {v} of this roster for this session",
    )


def advertise_key(terms: Terms[Any], rng: Rng) -> tuple[AwaitingKeys, AdvertiseCkksKey]:
    c_sk = SecretKey.generate(rng)
    statement = key_statement(*terms.of_keys(), terms.u, c_sk.public)
    return AwaitingKeys(terms, c_sk, rng), AdvertiseCkksKey(c_sk.public, terms.sign(statement))


@dataclass(frozen=True, slots=True)
class AwaitingKeys(NeverPickled):
    """After AdvertiseCkksKey."""

    terms: Terms[Any]
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
            check_signed_of(terms, v, statement, signature, "a key that is")

    def _make(self, sid: bytes, agreed: Mapping[ClientId, bytes]) -> tuple[SessionKey, ShareCkksKey]:
        """A fresh secret key under a fresh K, and K for each v. agreed: of every other client of U1."""
        u = self.terms.u
        made = self.terms.parameters.keys()
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
    """K, and the secret key that was sealed under it."""

    K: bytes = field(repr=False)
    keys: Any = field(repr=False)  # `parameters.keys()`


@dataclass(frozen=True, slots=True)
class AwaitingCiphertextsRequest(NeverPickled):
    """After ShareCkksKey. Used once.

    opens: what opens K, by maker. own: the key u made, if it did.
    """

    terms: Terms[Any]
    sid: bytes
    U1: frozenset[ClientId]
    opens: Mapping[ClientId, bytes] = field(repr=False)
    own: SessionKey | None = field(repr=False)

    def open(self, request: CiphertextsRequest) -> SessionKey:
        u, maker, parameters = self.terms.u, request.maker, self.terms.parameters
        # Whose key it is comes first: nothing of it is opened before.
        statement = partial(secret_statement, self.sid, maker, request.secret)
        check_signed_of(self.terms, maker, statement, request.signature, "a session key that is")
        if maker == u and self.own is not None:
            return self.own  # sealed for the others alone
        if maker not in self.opens or u not in request.sealed:
            raise RemoteProtocolError(
                "the server passes on a session key that no client was to make for this one"
            )
        # Before it is opened: whoever reads the residues takes their number as given.
        if len(request.secret) != parameters.plan.ring.key_bytes + AE_OVERHEAD:
            raise RemoteProtocolError("a session key of another ring")
        data = seal_data(self.sid, maker, u, request.secret)
        K = unseal(self.opens[maker], request.sealed[u], data)
        secret = K and unseal(secret_key(K, self.sid, maker), request.secret, self.sid)
        if not K or not secret:
            raise RemoteProtocolError("a session key that does not open")
        return SessionKey(K, parameters.keys(residues_of_key(parameters.plan.ring, secret)))


def check_survivors(
    terms: Terms[Any], U1: Collection[ClientId], request: DecryptRequest
) -> frozenset[ClientId]:
    """U3, as the server names it.

    Raises: RemoteProtocolError unless u is in it, and m_min clients of U1 are.
    """
    survivors = frozenset(request.survivors)
    if terms.u not in survivors:
        raise RemoteProtocolError("the server counts this client as dropped and asks it all the same")
    if not survivors <= frozenset(U1):
        raise RemoteProtocolError("the server names a survivor that had advertised no keys")
    if len(survivors) < terms.parameters.m_min:
        raise RemoteProtocolError(f"{len(survivors)} clients survive, {terms.parameters.m_min} are needed")
    return survivors
