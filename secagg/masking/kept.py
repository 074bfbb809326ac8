"""What a client of masking is between two messages, as bytes and back: what a ticket seals.

Only what cannot be had otherwise is kept: parameters, roster and identity come from the caller again, and
what follows from the session id and the sets is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from secagg.alike import Alike
from secagg.bits import Words, add_each, pack_each
from secagg.crypto import Rng, SecretKey
from secagg.identity import Identity
from secagg.masking.client import (
    AwaitingConsistencyCheck,
    AwaitingMaskedInput,
    AwaitingShareKeys,
    AwaitingSignatures,
    AwaitingUnmasking,
    Holding,
    Session,
)
from secagg.masking.messages import Delivery
from secagg.states import Kept, KeptLike, Terms, like_of
from secagg.wire import Id, Key

if TYPE_CHECKING:
    from secagg.masking import Masking

Encoded = Mapping[str, Words]


class _Terms(Kept, frozen=True):
    context: Key
    nonce: Key
    like: KeptLike | None


class _Session(Kept, frozen=True):
    """neighbours: v -> s_v^PK."""

    terms: _Terms
    sid: Key
    U1: list[Id]
    neighbours: dict[Id, Key]


class _Holding(Kept, frozen=True):
    session: _Session
    U2: list[Id]
    incoming: dict[Id, Key]
    dealt: dict[Id, Delivery]
    own_shares: bytes


class _ShareKeys(Kept, frozen=True, tag="share-keys"):
    """x_u: packed, in the order of the names."""

    terms: _Terms
    c_sk: Key
    s_sk: Key
    x_u: list[bytes]


class _MaskedInput(Kept, frozen=True, tag="masked-input"):
    session: _Session
    s_sk: Key
    b_u: Key
    incoming: dict[Id, Key]
    own_shares: bytes
    x_u: list[bytes]


class _ConsistencyCheck(Kept, frozen=True, tag="consistency-check"):
    holding: _Holding


class _Signatures(Kept, frozen=True, tag="signatures"):
    holding: _Holding
    U3: list[Id]


class _Unmasking(Kept, frozen=True, tag="unmasking"):
    holding: _Holding


_states = msgspec.msgpack.Decoder(_ShareKeys | _MaskedInput | _ConsistencyCheck | _Signatures | _Unmasking)
_encoder = msgspec.msgpack.Encoder()


def keep(state: Any, encoded: Encoded | None, bits: Mapping[str, int]) -> bytes:
    """encoded: x_u, until it is masked. bits: of its rings."""
    return _encoder.encode(_kept(state, pack_each(encoded or {}, bits)))


def _kept(state: Any, x_u: list[bytes]) -> Kept:
    match state:
        case AwaitingShareKeys(terms, c_sk, s_sk):
            return _ShareKeys(_of_terms(terms), c_sk.expose(), s_sk.expose(), x_u)
        case AwaitingMaskedInput(session, s_sk, b_u, incoming, own_shares):
            return _MaskedInput(_of_session(session), s_sk.expose(), b_u, dict(incoming), own_shares, x_u)
        case AwaitingConsistencyCheck(holding):
            return _ConsistencyCheck(_of_holding(holding))
        case AwaitingSignatures(holding, _, U3):
            return _Signatures(_of_holding(holding), sorted(U3))
    return _Unmasking(_of_holding(state.holding))


def _of_terms(terms: Terms[Masking]) -> _Terms:
    return _Terms(terms.context, terms.nonce, KeptLike.of(terms.like))


def _of_session(session: Session) -> _Session:
    return _Session(_of_terms(session.terms), session.sid, sorted(session.U1), dict(session.neighbours))


def _of_holding(holding: Holding) -> _Holding:
    # What opens shares of dealers that are not in U2 is not needed any more.
    incoming = {v: holding.incoming[v] for v in holding.dealt}
    session = _of_session(holding.session)
    return _Holding(session, sorted(holding.U2), incoming, dict(holding.dealt), holding.own_shares)


class Restored:
    """A state again, with what its client's caller has given again."""

    def __init__(
        self, parameters: Masking, u: int, identity: Identity | None, alike: Alike | None, rng: Rng
    ) -> None:
        self._parameters, self._u, self._identity, self._alike, self._rng = (
            parameters,
            u,
            identity,
            alike,
            rng,
        )

    def state(self, kept: bytes) -> tuple[Any, Terms[Masking], dict[str, Words] | None]:
        """The state, its terms, and x_u where it is not masked yet."""
        match state := _states.decode(kept):
            case _ShareKeys(kept_terms, c_sk, s_sk, x_u):
                terms = self._terms(kept_terms)
                waiting = AwaitingShareKeys(terms, SecretKey(c_sk), SecretKey(s_sk), self._rng)
                return waiting, terms, self._encoded(x_u)
            case _MaskedInput(kept_session, s_sk, b_u, incoming, own, x_u):
                session = self._session(kept_session)
                masking = AwaitingMaskedInput(session, SecretKey(s_sk), b_u, incoming, own)
                return masking, session.terms, self._encoded(x_u)
        holding = self._holding(state.holding)
        return self._unmasking(state, holding), holding.session.terms, None

    def _unmasking(self, state: Any, holding: Holding) -> Any:
        if isinstance(state, _Unmasking):
            return AwaitingUnmasking(holding)
        assert self._identity is not None, "a ticket of a session that signs, for one that does not"  # noqa: S101
        if isinstance(state, _ConsistencyCheck):
            return AwaitingConsistencyCheck(holding, self._identity)
        U3 = frozenset(state.U3)
        return AwaitingSignatures(holding, self._identity, U3, holding.statement(U3))

    def _terms(self, kept: _Terms) -> Terms[Masking]:
        like = like_of(kept.like, self._alike)
        return Terms(self._u, self._parameters, kept.context, kept.nonce, self._identity, like)

    def _session(self, kept: _Session) -> Session:
        return Session.again(self._terms(kept.terms), kept.sid, frozenset(kept.U1), kept.neighbours)

    def _holding(self, kept: _Holding) -> Holding:
        session, U2 = self._session(kept.session), frozenset(kept.U2)
        return Holding(session, U2, session.held(U2), kept.incoming, kept.dealt, kept.own_shares)

    def _encoded(self, x_u: list[bytes]) -> dict[str, Words]:
        codes = self._parameters.zeros()
        add_each(codes, x_u, self._parameters.ring_bits())
        return codes
