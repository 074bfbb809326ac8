"""A relay of split aggregation: it adds the shares that are sealed to it, over one set of clients, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from secagg.bits import Words, add_packed, check_packed, pack, word_type
from secagg.crypto import NeverPickled, Rng, SecretKey, system_rng, unseal
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError
from secagg.identity import Identity, check_signed
from secagg.prg import add_masks
from secagg.session import Once
from secagg.split.client import check_relay_keys
from secagg.split.derived import (
    column_statement,
    dummy_key,
    relay_key_statement,
    seal_data,
    seal_key,
    session_id,
    share_digest,
    shares_statement,
)
from secagg.split.messages import (
    Column,
    ColumnRequest,
    DeliverRequest,
    Delivery,
    Received,
    RelayKey,
    RelayKeyRequest,
    SeedShare,
    VectorShare,
    holder_of,
)
from secagg.states import Kept, Stateful, Terms
from secagg.tagged import Tagged
from secagg.wire import Digest, Id, Key, Raw, decode, encode, relay_party

if TYPE_CHECKING:
    from secagg.split import Split


@dataclass(frozen=True, slots=True)
class AwaitingRequest:
    """After Join."""


@dataclass(frozen=True, slots=True)
class AwaitingShares(NeverPickled):
    """After RelayKey. Used once: what is sealed to the key is opened in this session or never."""

    terms: Terms[Split]
    sk: SecretKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Usable(NeverPickled):
    """A client's share, opened and checked. digests: of all the shares that it sent."""

    digests: list[bytes]
    share: SeedShare | VectorShare = field(repr=False)


@dataclass(frozen=True, slots=True)
class AwaitingMembers(NeverPickled):
    """After Received."""

    terms: Terms[Split]
    sid: bytes
    shares: Mapping[ClientId, Usable] = field(repr=False)


class Added:
    """After Column. The same request gets the same bytes, and no other any."""


class _AwaitingShares(Kept, frozen=True, tag="shares"):
    context: Key
    nonce: Key
    sk: Key


class _Usable(Kept, frozen=True):
    """share: the message, encoded."""

    digests: list[Digest]
    share: bytes


class _AwaitingMembers(Kept, frozen=True, tag="members"):
    context: Key
    nonce: Key
    sid: Key
    shares: dict[Id, _Usable]


_states = msgspec.msgpack.Decoder(_AwaitingShares | _AwaitingMembers)


class SplitRelay(Stateful):
    """Relay j's session: a `session.ClientSession` that has no vectors of its own.

    tagged: its rule for sums of like vectors.

    Security: it adds what distinct clients of its own roster have signed for this session, at least m_min of
    them, over one set, and says nothing else of what it opened.
    """

    suspendable = True
    first_state = AwaitingRequest

    def __init__(
        self,
        parameters: Split,
        j: int,
        *,
        identity: Identity | None = None,
        once: Once | None = None,
        tagged: Tagged | None = None,
        rng: Rng = system_rng,
    ) -> None:
        if not 0 <= j < parameters.relays:
            raise LocalProtocolError(f"there is no relay {j}: they are 0 to {parameters.relays - 1}")
        parameters.check_roster(identity.roster if identity else None)
        if identity is not None and identity.u != relay_party(j):
            raise LocalProtocolError(f"the identity given to relay {j} is another's")
        super().__init__(parameters, relay_party(j), identity, once, rng)
        self._j, self._tagged = j, tagged

    def _step(self, state: Any, message: Raw) -> bytes:
        match state:
            case AwaitingRequest():
                return self._show_key(decode(RelayKeyRequest, message))
            case AwaitingShares():
                return self._open(state, decode(DeliverRequest, message))
            case AwaitingMembers():
                return self._add(state, decode(ColumnRequest, message))
        decode(ColumnRequest, message)
        raise RemoteProtocolError("the server asks for the sum of another set of clients, too")

    def _keep(self, reply: bytes) -> bytes:
        self._reply = reply  # however long: nobody else has a column, without which there is no sum
        return reply

    def _kept(self, state: Any) -> bytes:
        terms = state.terms
        if isinstance(state, AwaitingShares):
            return msgspec.msgpack.encode(_AwaitingShares(terms.context, terms.nonce, state.sk.expose()))
        shares = {u: _Usable(one.digests, encode(one.share)) for u, one in state.shares.items()}
        return msgspec.msgpack.encode(_AwaitingMembers(terms.context, terms.nonce, state.sid, shares))

    def _restored(self, kept: bytes) -> Any:
        state = _states.decode(kept)
        terms = self._terms(state.context, state.nonce)
        if isinstance(state, _AwaitingShares):
            return AwaitingShares(terms, SecretKey(state.sk))
        shares = {u: Usable(one.digests, self._checked(u, one.share)) for u, one in state.shares.items()}
        return AwaitingMembers(terms, state.sid, shares)

    def _terms(self, context: bytes, nonce: bytes) -> Terms[Split]:
        self._context, self._nonce = context, nonce
        return Terms(self._j, self._parameters, context, nonce, self._identity)

    def _show_key(self, request: RelayKeyRequest) -> bytes:
        terms = self._terms(request.context, request.nonce)
        sk = SecretKey.generate(self._rng)
        self._state = AwaitingShares(terms, sk)
        return encode(
            RelayKey(sk.public, terms.sign(relay_key_statement(*terms.of_keys(), self._j, sk.public)))
        )

    def _open(self, state: AwaitingShares, request: DeliverRequest) -> bytes:
        """Open what was sealed to this relay, and say what cannot be used: so that nobody has added it when
        the others learn of it.
        """
        terms, keys, least = state.terms, request.keys, self._parameters.m_min
        check_relay_keys(terms.of_keys(), terms.roster, self._parameters.relays, keys)
        if keys[self._j][0] != state.sk.public:
            raise RemoteProtocolError("the server shows clients another key of this relay")
        if not least <= len(request.shares) <= self._parameters.clients:
            raise RemoteProtocolError(
                f"shares of {len(request.shares)} clients; it takes {least} to {self._parameters.clients}"
            )
        sid = session_id(terms.nonce, self._parameters.digest(), terms.context, keys)
        opened = {u: self._opened(state, sid, u, delivery) for u, delivery in request.shares.items()}
        usable = {u: share for u, share in opened.items() if share is not None}
        if self._tagged is not None:
            tags = {u: one.share.like for u, one in usable.items()}
            alone, A = self._parameters.blanks_alone, self._parameters.corrupt
            for u in self._tagged.against(usable, tags, A, alone=alone):
                del usable[u]
        self._state = AwaitingMembers(terms, sid, usable)
        return encode(Received([u for u in request.shares if u not in usable]))

    def _opened(self, state: AwaitingShares, sid: bytes, u: ClientId, delivery: Delivery) -> Usable | None:
        """None for what u, or the server, has spoilt: the sum goes on without u."""
        terms, j, digests = state.terms, self._j, delivery.digests
        if len(digests) != self._parameters.relays or digests[j] != share_digest(delivery.sealed):
            return None
        statement = partial(
            shares_statement, sid, self._parameters.digest(), terms.context, u, delivery.c_pk, digests
        )
        try:
            check_signed(terms.roster, u, statement, delivery.signature, "shares", "shares not signed by it")
            key = seal_key(state.sk.agree(delivery.c_pk), sid, u, j, delivery.c_pk)
            plaintext = unseal(key, bytes(delivery.sealed), seal_data(sid, u, j))
            return None if plaintext is None else Usable(digests, self._checked(u, plaintext))
        except RemoteProtocolError:
            return None

    def _checked(self, u: ClientId, plaintext: bytes) -> SeedShare | VectorShare:
        if holder_of(u, self._parameters.relays) != self._j:
            return decode(SeedShare, plaintext)
        share, names = decode(VectorShare, plaintext), self._parameters.names
        if len(share.packed) != len(names):
            raise RemoteProtocolError(f"{len(share.packed)} vectors, the session has {len(names)}")
        bits = self._parameters.ring_bits()
        for name, packed in zip(names, share.packed, strict=True):
            check_packed(packed, self._parameters.vectors[name].length, bits[name])
        return share

    def _add(self, state: AwaitingMembers, request: ColumnRequest) -> bytes:
        members = request.members
        if not state.shares.keys() >= set(members):
            raise RemoteProtocolError("the server asks for shares that this relay did not get, or cannot use")
        if len(members) < self._parameters.m_min:
            raise RemoteProtocolError(
                f"the server asks for a sum of {len(members)} clients, {self._parameters.m_min} are needed"
            )
        added = {u: state.shares[u] for u in members}
        packed = self._column(state.sid, added)
        digests = {u: usable.digests for u, usable in added.items()}
        signature = state.terms.sign(column_statement(state.sid, self._j, digests, packed))
        # On record before it leaves: what raises keeps it here. First the rule, which counts what it refuses
        # as nothing.
        if self._tagged is not None:
            tags = {tag for usable in added.values() for tag in usable.share.like}
            alone = self._parameters.blanks_alone
            self._tagged.sum(members, tags, self._parameters.corrupt, alone=alone)
        self._leaving()
        self._state, self.done = Added(), True
        return encode(Column(packed, signature))

    def _column(self, sid: bytes, added: Mapping[ClientId, Usable]) -> list[memoryview]:
        """The sum of the shares, by vector: the packed ones one after the other, dummies side by side."""
        seeds = {u: one.share.seed for u, one in added.items() if isinstance(one.share, SeedShare)}
        vectors = [one.share.packed for one in added.values() if isinstance(one.share, VectorShare)]
        bits, columns = self._parameters.ring_bits(), []
        for at, name in enumerate(self._parameters.names):
            b = bits[name]
            total: Words = np.zeros(self._parameters.vectors[name].length, word_type(b))
            for packed in vectors:
                add_packed(total, packed[at], b)
            dummies = (dummy_key(seed, sid, u, self._j, name) for u, seed in seeds.items())
            add_masks(total, dummies, (), self._parameters.prg)
            columns.append(memoryview(pack(total, b)))
        return columns
