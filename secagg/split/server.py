"""The server of split aggregation: it passes sealed shares on, and adds the relays' columns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from secagg.aggregate import Aggregate
from secagg.alike import Alike, Class
from secagg.bits import Words, add_each, check_packed, pack_each
from secagg.crypto import KEY_BYTES, Rng, check_public_key, system_rng
from secagg.errors import ClientId, LocalProtocolError, RelayLost, RemoteProtocolError, TooFewClients
from secagg.identity import Roster, check_signed
from secagg.planning import Plan
from secagg.rounds import RoundServer
from secagg.session import relays_of
from secagg.split.derived import (
    column_statement,
    relay_key_statement,
    session_id,
    share_digest,
    shares_statement,
)
from secagg.split.messages import (
    COLUMNS,
    SHARES,
    Column,
    ColumnRequest,
    DeliverRequest,
    Delivery,
    Received,
    RelayKey,
    RelayKeyRequest,
    RelayKeys,
    Shares,
    SplitTask,
    holder_of,
    sizes_of_shares,
)
from secagg.states import Kept, KeptLike, like_of
from secagg.wire import Digest, Id, Key, Raw, Signature, decode, encode, relay_of, relay_party

if TYPE_CHECKING:
    from secagg.split import Split


class _KeptSplit(Kept, frozen=True):
    """deliveries: those that have not been passed on. digests: in the order in which shares came. total:
    packed, of columns.
    """

    context: Digest
    like: KeptLike | None
    keys: dict[int, tuple[Key, Signature]]
    sid: bytes
    deliveries: list[dict[Id, Delivery]]
    digests: dict[Id, list[Digest]]
    chosen: list[Id]
    total: list[bytes]


_kept_split = msgspec.msgpack.Decoder(_KeptSplit)


class SplitServer(RoundServer):
    """One session. unopened: (relay, client) of each share that its relay could not use.

    Memory: the sealed vectors of the whole cohort, until they are passed on: those for one relay are let go
    before the message to the next is put together.
    """

    _parameters: Split
    suspendable = True

    def __init__(
        self,
        parameters: Split,
        cohort: Collection[ClientId],
        task: bytes,
        context: bytes,
        *,
        roster: Roster | None = None,
        like: Class | None = None,
        rng: Rng = system_rng,
    ) -> None:
        super().__init__(parameters, cohort, task, rng(KEY_BYTES))
        parameters.check_roster(roster)
        self._roster, self._context, self._like = roster, context, like
        self._relays = frozenset(relays_of(parameters))
        self.waiting_for = self.members = self.members | self._relays
        self._bits = parameters.ring_bits()
        self._keys: RelayKeys = {}
        self._sid = b""
        self._deliveries: list[dict[ClientId, Delivery]] = [{} for _ in range(parameters.relays)]
        self._digests: dict[ClientId, list[bytes]] = {}  # in the order in which shares came
        self._chosen: frozenset[ClientId] = frozenset()  # whose shares are passed on, then who is summed
        self._total: dict[str, Words] = parameters.zeros()

    def _kept(self) -> bytes:
        total = pack_each(self._total, self._bits) if self.round == COLUMNS else []
        return msgspec.msgpack.encode(
            _KeptSplit(
                self._context,
                KeptLike.of(self._like),
                self._keys,
                self._sid,
                self._deliveries,
                self._digests,
                sorted(self._chosen),
                total,
            )
        )

    def _restore(self, kept: bytes, alike: Alike | None) -> None:
        state = _kept_split.decode(kept)
        self._context, self._like = state.context, like_of(state.like, alike, state.sid)
        self._keys, self._sid, self._digests = state.keys, state.sid, state.digests
        # Copies, which are let go one by one, where views would keep the whole checkpoint here.
        self._deliveries = [
            {u: structs.replace(one, sealed=memoryview(bytes(one.sealed))) for u, one in deliveries.items()}
            for deliveries in state.deliveries
        ]
        self._chosen = frozenset(state.chosen)
        if state.total:
            add_each(self._total, state.total, self._bits)

    def _take(self, u: ClientId, message: Raw) -> None:
        match self.round:
            case "relay-keys":
                self._keyed(u, decode(RelayKey, message))
            case "shares":
                self._shared(u, decode(Shares, message))
            case "deliver":
                self._received(u, decode(Received, message))
            case _:
                self._added(u, decode(Column, message))

    def _asked(self) -> frozenset[ClientId]:
        return self.members - self._relays if self.round == SHARES else self.members & self._relays

    def _going_on(self, closing: str, alive: frozenset[ClientId]) -> frozenset[ClientId]:
        """Those who answered, and those who were not asked: clients before and after they share, relays while
        clients do. Without all the relays there is no sum, nor without m_min clients.
        """
        relays = (self.members - self._lost if closing == SHARES else alive) & self._relays
        if missing := self._relays - relays:
            raise RelayLost([relay_of(r) or 0 for r in missing], len(self._relays), closing)
        match closing:
            case "relay-keys":
                clients = self.members - self._relays - self._lost
            case "join":
                clients = alive - self._relays
            case "shares":
                clients = self._chosen = self._may_be_summed(alive - self._relays)
            case "deliver":
                unusable = {u for _, u in self.unopened}
                clients = self._chosen = self._may_be_summed(self._chosen - unusable)
            case _:
                clients = self._chosen
        if len(clients) < self._parameters.m_min:
            raise TooFewClients(len(clients), self._parameters.m_min, closing)
        return clients | relays

    def _open(self, closing: str, alive: frozenset[ClientId]) -> dict[ClientId, bytes]:
        match closing:
            case "relay-keys":
                return self._open_shares(alive)
            case "shares":
                return {relay_party(j): self._deliver(j) for j in self._keys}
            case "deliver":
                return self._open_columns()
            case _:
                self.result = self._add_columns()
                return {}

    # The relays' keys

    def _tasks(self, joined: frozenset[ClientId]) -> dict[ClientId, bytes]:
        request = encode(RelayKeyRequest(self._nonce, self._context))
        return dict.fromkeys(sorted(self._relays), request)

    def _keyed(self, r: ClientId, message: RelayKey) -> None:
        check_public_key(message.pk)  # else every client would fail on it
        j, listed = relay_of(r) or 0, b"" if self._roster is None else self._roster.digest
        of_keys = self._digest, listed, self._context, self._nonce
        statement = partial(relay_key_statement, *of_keys, j, message.pk)
        check_signed(
            self._roster, r, statement, message.signature, "showed a key", "showed a key not signed by it"
        )
        if any(message.pk == pk for pk, _ in self._keys.values()):
            raise RemoteProtocolError("showed a key that is already in use")
        self._keys[j] = (message.pk, message.signature)

    # The clients' shares

    def _open_shares(self, alive: frozenset[ClientId]) -> dict[ClientId, bytes]:
        self._keys = dict(sorted(self._keys.items()))
        self._sid = session_id(self._nonce, self._digest, self._context, self._keys)
        self._like = self._like and replace(self._like, session=self._sid)
        request = encode(SplitTask(self._nonce, self._task, self._keys))
        return dict.fromkeys(sorted(alive - self._relays), request)

    def _shared(self, u: ClientId, message: Shares) -> None:
        check_public_key(message.c_pk)
        due = sizes_of_shares(self._parameters, self._parameters.relays, u)
        if len(message.sealed) != len(due) or any(
            len(sealed) not in sizes for sealed, sizes in zip(message.sealed, due, strict=True)
        ):
            raise RemoteProtocolError("shares of other sizes than the session's")
        digests = [share_digest(sealed) for sealed in message.sealed]
        statement = partial(
            shares_statement, self._sid, self._digest, self._context, u, message.c_pk, digests
        )
        check_signed(self._roster, u, statement, message.signature, "shares", "shares not signed by it")
        self._digests[u], holder = digests, holder_of(u, self._parameters.relays)
        for j, sealed in enumerate(message.sealed):
            # A copy of what is short, which would keep the whole message here with the vector in it.
            kept = sealed if j == holder else memoryview(bytes(sealed))
            self._deliveries[j][u] = Delivery(message.c_pk, digests, kept, message.signature)

    def _may_be_summed(self, clients: frozenset[ClientId]) -> frozenset[ClientId]:
        """As many of those whose shares are here as relays may add beside earlier sums of like vectors."""
        like, m_min, A = self._like, self._parameters.m_min, self._parameters.corrupt
        earlier = [] if like is None else like.earlier([])
        plan = Plan(like, [clients], [earlier], m_min, A, alone=self._parameters.blanks_alone)
        chosen = plan.summed([u for u in self._digests if u in clients], m_min, self.round)
        if chosen is None:
            raise LocalProtocolError(
                "relays have added other sums of like vectors, and would add none that those who are left "
                "can give. If all inputs are new, say new=True, at the server and at each client; in a "
                "training take more steps, of fewer examples each (local_steps=)"
            )
        return chosen

    # What the relays make of them

    def _deliver(self, j: int) -> bytes:
        deliveries, self._deliveries[j] = self._deliveries[j], {}
        return encode(DeliverRequest(self._keys, {u: deliveries[u] for u in sorted(self._chosen)}))

    def _received(self, r: ClientId, message: Received) -> None:
        if not self._chosen >= set(message.unusable):
            raise RemoteProtocolError("could not use a share that it was not sent")
        self.unopened |= {(r, u) for u in message.unusable}

    def _open_columns(self) -> dict[ClientId, bytes]:
        if self._like is not None:  # as every relay does
            alone = self._parameters.blanks_alone
            self._like.sign(self._chosen, self._parameters.corrupt, [], alone=alone)
        request = encode(ColumnRequest(sorted(self._chosen)))
        return dict.fromkeys(sorted(self._relays), request)

    def _added(self, r: ClientId, message: Column) -> None:
        names = self._parameters.names
        if len(message.packed) != len(names):
            raise RemoteProtocolError(f"{len(message.packed)} vectors, the session has {len(names)}")
        vectors = dict(zip(names, message.packed, strict=True))
        # All are checked before any is added.
        for name, packed in vectors.items():
            check_packed(packed, self._parameters.vectors[name].length, self._bits[name])
        added = {u: self._digests[u] for u in self._chosen}
        statement = partial(column_statement, self._sid, relay_of(r) or 0, added, message.packed)
        check_signed(
            self._roster, r, statement, message.signature, "a column that is", "a column not signed by it"
        )
        add_each(self._total, message.packed, self._bits)

    def _add_columns(self) -> Aggregate:
        codes = self._parameters.centred(self._total)
        readings = self._parameters.readings(self._context, self._nonce)
        specs, blank = self._parameters.vectors, self._parameters.blank
        return Aggregate.of_codes(specs, self._chosen, codes, readings, blank)
