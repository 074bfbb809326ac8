"""The server of the protocol (Bonawitz et al., CCS 2017, figure 4).

It collects a round's answers, and whoever has answered when the caller closes the round goes on to the
next: U1, U2, U3, as the paper calls them. An uploaded vector is added when it arrives and not kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from secagg.aggregate import Aggregate
from secagg.alike import Alike, Class
from secagg.bits import Words, add_each, check_packed, pack_each
from secagg.crypto import DIGEST_BYTES, KEY_BYTES, Rng, SecretKey, check_public_key, system_rng
from secagg.encoding import centred
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, TooFewClients
from secagg.graph import Graph
from secagg.identity import Roster, check_signed
from secagg.masking.derived import (
    commit_mask,
    commit_shares,
    keys_statement,
    members_statement,
    session_id,
    shares_statement,
)
from secagg.masking.kept_server import KeptServer, Shares, servers
from secagg.masking.masks import Leftover
from secagg.masking.messages import (
    CONSISTENCY_CHECK,
    MASKED_INPUT,
    SHARE_KEYS,
    UNMASKING,
    AdvertiseKeys,
    Commitments,
    ConsistencyCheck,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInput,
    MaskedInputRequest,
    SelfMaskShare,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.masking.sums import Cut
from secagg.masking.uploads import Uploads
from secagg.parallel import Executor
from secagg.planning import in_whole
from secagg.private import Reading
from secagg.rounds import RoundServer
from secagg.shamir import is_share, recon
from secagg.states import KeptLike, like_of
from secagg.wire import MAX_OFFER_BYTES, Raw, decode, encode

if TYPE_CHECKING:
    from secagg.masking import Masking


class MaskingServer(RoundServer):
    """One session of the server, which itself follows the protocol.

    unopened: (holder, dealer) of each share that its holder could not open, or found to be another than its
    dealer committed to: one of the two, or the way between them, is at fault.

    executor: what takes long in unmasking is done in it, side by side; None: one after the other, here. like:
    the sessions that this one is alike: uploads are left out until clients may sign who is in the sum.
    """

    _parameters: Masking
    suspendable = True

    def __init__(
        self,
        parameters: Masking,
        cohort: Collection[ClientId],
        task: bytes,
        context: bytes,
        *,
        roster: Roster | None = None,
        executor: Executor | None = None,
        like: Class | None = None,
        rng: Rng = system_rng,
    ) -> None:
        super().__init__(parameters, cohort, task, rng(KEY_BYTES))
        parameters.check_roster(roster)
        self._threshold, self._roster, self._executor = parameters.threshold, roster, executor
        self._context = context
        self._batches, self._like = parameters.batches(roster), like
        if self._batches and frozenset[ClientId]().union(*self._batches) != set(cohort):
            raise LocalProtocolError(
                "by batches, the cohort is the whole roster; where there is none, clients 0 to n - 1"
            )
        self._sums = parameters.sums
        if not self._sums.takes(cohort):
            raise LocalProtocolError("the cohort is another than the one that is cut into groups")
        if (size := len(parameters.offer())) > MAX_OFFER_BYTES:
            raise LocalProtocolError(
                f"an offer of {size} bytes, and clients read {MAX_OFFER_BYTES}: the cohort that is cut is "
                "too large to be named, and so are cuts that stay (cut=)"
            )
        self._bits = parameters.ring_bits()
        self._keys: dict[ClientId, tuple[bytes, bytes, bytes]] = {}  # U1
        self._public: set[bytes] = set()
        self._sid = b""
        self._graph = Graph((), 0, 0, b"")  # until U1 is known
        self._cut: Cut = []  # the parts that are summed apart: groups, or all of U1
        self._sealed: dict[ClientId, dict[ClientId, bytes]] = {}  # U2: holder -> dealer -> e
        self._commitment: dict[ClientId, bytes] = {}  # of b_u
        self._commitments: dict[ClientId, dict[ClientId, Commitments]] = {}  # dealer -> holder
        self._U2: frozenset[ClientId] = frozenset()
        self._U3: frozenset[ClientId] = frozenset()
        self._statement = b""
        self._signatures: dict[ClientId, bytes] = {}  # U4
        self._plan = self._sums.plan(None, (), ())  # of whom there may be sums, until U2 is known
        self._uploads: list[Uploads] = []  # of each group
        self._totals: list[dict[str, Words]] = []  # of each group that U3 is enough to open
        self._shares: dict[ClientId, Shares] = {}

    def _kept(self) -> bytes:
        return msgspec.msgpack.encode(
            KeptServer(
                self._context,
                KeptLike.of(self._like),
                self._keys,
                self._sid,
                self._sealed,
                self._commitment,
                self._commitments,
                sorted(self._U2),
                sorted(self._U3),
                self._signatures,
                [[sorted(some) for some in earlier] for earlier in self._plan.earlier],
                [uploads.keep() for uploads in self._uploads],
                [pack_each(total, self._bits) for total in self._totals],
                self._shares,
            )
        )

    def _restore(self, kept: bytes, alike: Alike | None) -> None:
        state = servers.decode(kept)
        self._context, self._like = state.context, like_of(state.like, alike, state.sid)
        self._keys, self._sid = state.keys, state.sid
        self._public = {key for c_pk, s_pk, _ in state.keys.values() for key in (c_pk, s_pk)}
        if state.sid:
            self._graph = self._parameters.graph(state.sid, state.keys.keys())
            self._cut = self._sums.cut(state.sid, state.keys.keys())
        self._sealed, self._signatures, self._shares = state.sealed, state.signatures, state.shares
        self._commitment, self._commitments = state.commitment, state.commitments
        self._U2, self._U3 = frozenset(state.U2), frozenset(state.U3)
        self._statement = self._members_statement()
        earlier = [[frozenset(some) for some in sets] for sets in state.earlier]
        self._plan = self._sums.plan(self._like, self._batches, self._cut, earlier)
        self._uploads = [
            Uploads.of(kept, self._parameters.zeros, self._bits, self._batches) for kept in state.uploads
        ]
        for total in state.totals:
            self._totals.append(self._parameters.zeros())
            add_each(self._totals[-1], total, self._bits)

    def _take(self, u: ClientId, message: Raw) -> None:
        match self.round:
            case "advertise-keys":
                self._advertised(u, decode(AdvertiseKeys, message))
            case "share-keys":
                self._shared(u, decode(ShareKeys, message))
            case "masked-input":
                self._masked(u, decode(MaskedInput, message))
            case "consistency-check":
                self._checked(u, decode(ConsistencyCheck, message))
            case _:
                self._unmasking(u, decode(Unmasking, message))

    def _going_on(self, closing: str, alive: frozenset[ClientId]) -> frozenset[ClientId]:
        if closing == SHARE_KEYS:
            alive = self._sums.worthwhile(self._cut, alive)
        # The most that can still be summed; once U3 was shown, all of it is, whoever is left to say so.
        left = alive if closing in self._parameters.finishing_rounds else in_whole(self._batches, alive)
        if closing == MASKED_INPUT:
            arrived = [u for uploads in self._uploads for u in uploads.arrived]
            alive = left = self._summed([u for u in arrived if u in left])
        needed = self._threshold if closing == UNMASKING else self._parameters.m_min
        if len(left) < needed:
            raise TooFewClients(len(left), needed, closing)
        if closing in (MASKED_INPUT, CONSISTENCY_CHECK) and not self._opened(left):
            largest = max(len(group & left) for group in self._cut)
            raise TooFewClients(largest, self._sums.least, closing)
        return alive

    @property
    def groups(self) -> Cut:
        """Who has a sum apart, once U1 is known, whether they are there still; none of one sum of all."""
        return self._sums.groups(self._cut)

    @property
    def cut_as(self) -> bytes:
        """By which a later session cuts the same cohort alike (`Aggregate.cut`), whatever becomes of this
        one; empty where that is not known before U1 is, and of one sum of all.
        """
        return self._sums.seed(self._sid)

    def _opened(self, there: frozenset[ClientId]) -> list[frozenset[ClientId]]:
        """The groups of which enough are there for their sum to be opened, as each client sees for itself."""
        return self._sums.opened(self._cut, there)

    def _open(self, closing: str, alive: frozenset[ClientId]) -> dict[ClientId, bytes]:
        match closing:
            case "advertise-keys":
                return self._open_share_keys(alive)
            case "share-keys":
                return self._open_masked_input(alive)
            case "masked-input":
                self._sum(alive)
                check = self._roster is not None
                return self._open_consistency_check(alive) if check else self._open_unmasking(alive)
            case "consistency-check":
                return self._open_unmasking(alive)
            case _:
                self.result = self._unmask()
                return {}

    # Round 0: AdvertiseKeys

    def _advertised(self, u: ClientId, message: AdvertiseKeys) -> None:
        for public in (message.c_pk, message.s_pk):
            check_public_key(public)  # else every other client would fail on it
        pair = {message.c_pk, message.s_pk}
        if len(pair) == 1 or pair & self._public:
            raise RemoteProtocolError("advertised a key that is already in use")
        listed = b"" if self._roster is None else self._roster.digest
        of_keys = self._digest, listed, self._context, self._nonce
        statement = partial(keys_statement, *of_keys, u, message.c_pk, message.s_pk)
        check_signed(
            self._roster,
            u,
            statement,
            message.signature,
            "advertised keys",
            "advertised keys without its signature",
        )
        self._public |= pair
        self._keys[u] = (message.c_pk, message.s_pk, message.signature)

    # Round 1: ShareKeys

    def _open_share_keys(self, U1: frozenset[ClientId]) -> dict[ClientId, bytes]:
        self._keys = {u: self._keys[u] for u in sorted(U1)}
        self._sid = session_id(self._nonce, self._digest, self._context, self._keys)
        self._graph = self._parameters.graph(self._sid, U1)
        self._cut = self._sums.cut(self._sid, U1)
        self._like = self._like and replace(self._like, session=self._sid)
        self._sealed = {u: {} for u in self._keys}
        request = encode(ShareKeysRequest(self._keys))
        return dict.fromkeys(self._keys, request)

    def _shared(self, u: ClientId, message: ShareKeys) -> None:
        holders = self._graph.holders(u)
        if message.sealed.keys() != holders - {u}:
            raise RemoteProtocolError("shared secrets with others than the clients that are to hold them")
        if self._roster is None and (message.commitment or message.commitments):
            raise RemoteProtocolError("committed to shares in a session where nothing is signed")
        if self._roster is not None and (
            message.commitments.keys() != holders or len(message.commitment) != DIGEST_BYTES
        ):
            raise RemoteProtocolError("shared secrets without committing to each share")
        statement = partial(shares_statement, self._sid, u, message)
        check_signed(
            self._roster,
            u,
            statement,
            message.signature,
            "shared secrets",
            "shared secrets without its signature",
        )
        self._commitment[u], self._commitments[u] = message.commitment, message.commitments
        for holder, sealed in message.sealed.items():
            self._sealed[holder][u] = sealed

    # Round 2: MaskedInputCollection

    def _open_masked_input(self, U2: frozenset[ClientId]) -> dict[ClientId, bytes]:
        self._U2 = U2
        self._plan = plan = self._sums.plan(self._like, self._batches, self._cut)
        self._summed(sorted(in_whole(self._batches, U2)))  # else all would upload in vain
        if self._like is not None:
            self._sums.leave_alike(self._like, self._cut)  # as every client does
        # What may have to be left out is kept apart from the first upload on.
        self._uploads = [
            Uploads(self._parameters.zeros, self._bits, self._batches, earlier, plan.spare)
            for earlier in plan.earlier_among(U2)
        ]
        shared = sorted(U2)
        requests = {u: encode(MaskedInputRequest(shared, self._dealt_to(u))) for u in shared}
        self._sealed = {}
        return requests

    def _dealt_to(self, u: ClientId) -> dict[ClientId, Delivery]:
        """What is dealt to u, by each dealer in U2."""
        sealed = self._sealed[u]
        dealers = sorted(sealed.keys() & self._U2)
        if self._roster is None:
            return {v: Delivery(sealed[v], None) for v in dealers}
        return {v: Delivery(sealed[v], self._commitments[v][u]) for v in dealers}

    def _summed(self, there: Sequence[ClientId]) -> frozenset[ClientId]:
        """Of those who are there, as many as clients may sign beside earlier sums of like vectors.

        Raises: LocalProtocolError where they are none, TooFewClients where they are too few.
        """
        chosen = self._plan.summed(there, self._parameters.m_min, MASKED_INPUT)
        if chosen is None:
            raise LocalProtocolError(
                "clients have signed other sums of like vectors, and would sign none that those who are left "
                "can give. If all inputs are new, say new=True, at the server and at each client; in a "
                "training take more steps, of fewer examples each (local_steps=); else sum by batches "
                "(batch=), or where groups are summed apart, by those of the first of these sums (cut=)"
            )
        return chosen

    def _masked(self, u: ClientId, message: MaskedInput) -> None:
        names = self._parameters.names
        if len(message.packed) != len(names):
            raise RemoteProtocolError(f"{len(message.packed)} vectors, the session has {len(names)}")
        vectors = dict(zip(names, message.packed, strict=True))
        # All are checked before any is added: half an upload could never be taken out of the sum again.
        for name, packed in vectors.items():
            check_packed(packed, self._parameters.vectors[name].length, self._bits[name])
        self._uploads[next(i for i, group in enumerate(self._cut) if u in group)].add(u, vectors)

    def _sum(self, U3: frozenset[ClientId]) -> None:
        opened = self._opened(U3)
        self._totals = [
            uploads.close(group & U3)
            for group, uploads in zip(self._cut, self._uploads, strict=True)
            if group in opened
        ]
        self._uploads = []
        if self._like is not None:  # as every client does
            for group in opened:
                self._sums.sign_alike(self._like, group & U3, self._batches, self._cut)

    # Round 3: ConsistencyCheck

    def _open_consistency_check(self, U3: frozenset[ClientId]) -> dict[ClientId, bytes]:
        self._U3 = U3
        self._statement = self._members_statement()
        request = encode(ConsistencyCheckRequest(sorted(U3)))
        return dict.fromkeys(sorted(U3), request)

    def _members_statement(self) -> bytes:
        U1 = self._keys.keys()
        return members_statement(self._sid, self._digest, self._context, U1, self._U2, self._U3)

    def _checked(self, u: ClientId, message: ConsistencyCheck) -> None:
        if self._roster is None or not self._roster.signed_by(u, self._statement, message.signature):
            raise RemoteProtocolError("did not sign the survivors it was shown")
        self._signatures[u] = message.signature

    # Round 4: Unmasking

    def _open_unmasking(self, alive: frozenset[ClientId]) -> dict[ClientId, bytes]:
        if self._roster is not None:
            request = encode(SignedUnmaskingRequest({v: self._signatures[v] for v in sorted(alive)}))
        else:
            self._U3 = alive
            request = encode(UnmaskingRequest(sorted(self._U2 - alive)))
        # Of no other group holders give a share.
        self._shares = {v: Shares() for group in self._opened(alive) for v in sorted(group & self._U2)}
        return dict.fromkeys(sorted(alive), request)

    def _unmasking(self, u: ClientId, message: Unmasking) -> None:
        dealers = self._graph.holders(u) & self._shares.keys()
        if not message.shares.keys() <= dealers:
            raise RemoteProtocolError("returned a share of a client that dealt none to it")
        survivors = self._U3
        if any(isinstance(given, SelfMaskShare) != (v in survivors) for v, given in message.shares.items()):
            raise RemoteProtocolError("returned a share of the wrong kind")
        if not all(is_share(given.share) for given in message.shares.values()):
            raise RemoteProtocolError("returned a share that is not an element of the field")
        self._check_returned(u, message)
        self.unopened |= {(u, v) for v in dealers - message.shares.keys()}
        for v, given in message.shares.items():
            shares = self._shares[v]
            (shares.of_mask if v in survivors else shares.of_key)[u + 1] = given.share

    def _check_returned(self, u: ClientId, message: Unmasking) -> None:
        """Against what their dealers committed to; an honest holder returns nothing else."""
        if self._roster is None:
            return
        for v, given in message.shares.items():
            # The commitment of the kind that was returned, whatever stands in for the other.
            joined = given.share * 2
            made, due = commit_shares(self._sid, v, u, joined), self._commitments[v][u]
            same = made.of_key == due.of_key if v not in self._U3 else made.of_mask == due.of_mask
            if not same:
                raise RemoteProtocolError(f"returned another share of client {v} than it was dealt")

    def _unmask(self) -> Aggregate:
        # All is rebuilt before anything is taken off: a secret that cannot be had ends the session whole.
        own = {u: self._rebuild_mask(u) for u in sorted(self._U3 & self._shares.keys())}
        dropped = {v: self._rebuild_key(v) for v in sorted(self._shares.keys() - self._U3)}
        readings = self._parameters.readings(self._context, self._nonce)
        parts = [
            self._unmasked(group, total, own, dropped, readings)
            for group, total in zip(self._opened(self._U3), self._totals, strict=True)
            if not group.isdisjoint(own)  # else too few of it have signed
        ]
        self._totals = []
        return self._sums.together(parts, readings, self._sid)

    def _unmasked(
        self,
        group: frozenset[ClientId],
        total: dict[str, Words],
        own: Mapping[ClientId, bytes],
        dropped: Mapping[ClientId, SecretKey],
        readings: Mapping[str, Reading],
    ) -> Aggregate:
        """The sum of one group's survivors. own, dropped: of all, b_u and s_v^SK."""
        parameters, specs = self._parameters, self._parameters.vectors
        of_own = {u: own[u] for u in own if u in group}
        of_dropped = {v: dropped[v] for v in dropped if v in group}
        masks = partial(self._sums.masks, self._graph, self._cut)
        left = Leftover.of(self._sid, masks, self._keys, of_own, of_dropped, parameters.prg, self._executor)
        for name, codes in total.items():
            left.take_off(codes, name)
        summed = {name: centred(specs[name], total.pop(name), self._sums.most) for name in sorted(specs)}
        return Aggregate.of_codes(specs, frozenset(of_own), summed, readings, parameters.blank)

    def _rebuild(self, v: ClientId, shares: Mapping[int, bytes]) -> bytes:
        """SS.recon of one secret of v from the t holders with the lowest points that kept their places."""
        shares = {x: y for x, y in shares.items() if x - 1 not in self._lost}
        reporting = {holder for holder, dealer in self.unopened if dealer == v}
        if len(shares) < self._threshold and self._roster and len(reporting) > self._parameters.corrupt:
            # More than can be corrupt could not use what v signed: one of them at least is honest.
            raise RemoteProtocolError(f"client {v} dealt shares that its holders cannot use", {v})
        if len(shares) < self._threshold:
            raise TooFewClients(len(shares), self._threshold, UNMASKING, v, reporting)
        secret = recon({x: int.from_bytes(shares[x], "big") for x in sorted(shares)[: self._threshold]})
        if secret >= 2 ** (8 * KEY_BYTES):
            raise RemoteProtocolError(f"the shares of client {v} do not belong together", self._dealer(v))
        return secret.to_bytes(KEY_BYTES, "big")

    def _rebuild_mask(self, u: ClientId) -> bytes:
        b_u = self._rebuild(u, self._shares[u].of_mask)
        if self._roster is not None and commit_mask(self._sid, u, b_u) != self._commitment[u]:
            raise RemoteProtocolError(f"client {u} dealt shares of another mask", self._dealer(u))
        return b_u

    def _rebuild_key(self, v: ClientId) -> SecretKey:
        s_sk = SecretKey(self._rebuild(v, self._shares[v].of_key))
        if s_sk.public != self._keys[v][1]:
            raise RemoteProtocolError(f"client {v} dealt shares of another key", self._dealer(v))
        return s_sk

    def _dealer(self, v: ClientId) -> set[ClientId]:
        """v, where its holders' shares are known to be those it dealt; else nobody can be named."""
        return {v} if self._roster is not None else set()
