"""Client u of the protocol (Bonawitz et al., CCS 2017, figure 4): one type for each thing it can await.

A transition takes the server's message and returns the next state with the reply. A state is used once;
an exception leaves the session dead and its secrets dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from secagg.bits import Words, pack
from secagg.crypto import KEY_BYTES, NeverPickled, Rng, SecretKey, seal
from secagg.errors import ClientId, RemoteProtocolError
from secagg.identity import Identity, check_signed
from secagg.masking import groups
from secagg.masking.derived import (
    AdvertisedKeys,
    commit_mask,
    commit_shares,
    keys_statement,
    members_statement,
    session_id,
    share_data,
    share_key,
    shares_statement,
)
from secagg.masking.masks import put_on
from secagg.masking.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInput,
    MaskedInputRequest,
    PairKeyShare,
    SelfMaskShare,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.masking.shares import deal, halves, open_dealt
from secagg.masking.sums import Cut
from secagg.states import Terms

if TYPE_CHECKING:
    from secagg.masking import Masking


@dataclass(frozen=True, slots=True)
class Session:
    """What u keeps of the keys the server has shown: of all of U1 their ids, of its neighbours s_v^PK.

    neighbours: whose masks cancel with u's. holders: of u's shares, and whose shares u holds; in U1. cut: the
    groups that are summed apart; of one sum all of U1.
    """

    terms: Terms[Masking]
    sid: bytes
    U1: frozenset[ClientId]
    neighbours: Mapping[ClientId, bytes]
    holders: frozenset[ClientId]
    cut: Cut

    @classmethod
    def of(cls, terms: Terms[Masking], keys: AdvertisedKeys) -> Session:
        sid = session_id(terms.nonce, terms.parameters.digest(), terms.context, keys)
        parameters = terms.parameters
        graph, cut = parameters.graph(sid, keys.keys()), parameters.sums.cut(sid, keys.keys())
        neighbours = {v: keys[v][1] for v in sorted(parameters.sums.masks(graph, cut, terms.u))}
        return cls(terms, sid, frozenset(keys), neighbours, graph.holders(terms.u), cut)

    @classmethod
    def again(
        cls,
        terms: Terms[Masking],
        sid: bytes,
        U1: frozenset[ClientId],
        neighbours: Mapping[ClientId, bytes],
    ) -> Session:
        """With what follows from the session id and U1."""
        holders, cut = terms.parameters.graph(sid, U1).holders(terms.u), terms.parameters.sums.cut(sid, U1)
        return cls(terms, sid, U1, neighbours, holders, cut)

    @property
    def u(self) -> ClientId:
        return self.terms.u

    @property
    def group(self) -> frozenset[ClientId]:
        """With whom u is summed."""
        return groups.of(self.u, self.cut)

    def opened(self, there: frozenset[ClientId]) -> list[frozenset[ClientId]]:
        """The groups of which enough are there for their sum to be opened: of no other any share is given."""
        return self.terms.parameters.sums.opened(self.cut, there)

    def held(self, among: Collection[ClientId]) -> list[ClientId]:
        """Those of U1 or U2 that hold shares of u's secrets, and whose shares u holds; in order.

        Raises: RemoteProtocolError if they are fewer than t: u's mask could not be taken off again.
        """
        holders = sorted(self.holders & frozenset(among))
        if len(holders) < (t := self.terms.parameters.threshold):
            raise RemoteProtocolError(
                f"{len(holders)} clients are left to hold this one's shares; it takes {t}"
            )
        return holders


def advertise_keys(terms: Terms[Masking], rng: Rng) -> tuple[AwaitingShareKeys, AdvertiseKeys]:
    """ "Generate key pairs (c_u^PK, c_u^SK), (s_u^PK, s_u^SK) ... sigma_u <- SIG.sign(d_u^SK, ...)." """
    c_sk, s_sk = SecretKey.generate(rng), SecretKey.generate(rng)
    statement = keys_statement(*terms.of_keys(), terms.u, c_sk.public, s_sk.public)
    advertised = AdvertiseKeys(c_sk.public, s_sk.public, terms.sign(statement))
    return AwaitingShareKeys(terms, c_sk, s_sk, rng), advertised


@dataclass(frozen=True, slots=True)
class AwaitingShareKeys(NeverPickled):
    """After AdvertiseKeys.

    Security: holds both secret keys.
    """

    terms: Terms[Masking]
    c_sk: SecretKey = field(repr=False)
    s_sk: SecretKey = field(repr=False)
    rng: Rng = field(repr=False)

    def share_keys(self, request: ShareKeysRequest) -> tuple[AwaitingMaskedInput, ShareKeys]:
        """Share s_u^SK and b_u among u's holders in U1 and seal each v's shares for v.

        Raises: RemoteProtocolError unless U1 has m_min to n members, t holders among them, u's own keys, no
        key twice and, active, a signature of every member that verifies under u's own roster.
        """
        keys, terms, rng = request.keys, self.terms, self.rng
        # All of the list is checked before u's keys meet any key of it.
        self._check_U1(keys)
        self._check_signatures(keys)
        u, t = terms.u, terms.parameters.threshold
        session = Session.of(terms, keys)
        sid, holders = session.sid, session.held(session.U1)
        b_u = rng(KEY_BYTES)  # "sample a random element b_u"
        both = deal(self.s_sk, b_u, t, holders, rng)
        # "e_uv <- AE.enc(KA.agree(c_u^SK, c_v^PK), u || v || shares)", and the key v will use for u.
        agreed = {v: self.c_sk.agree(keys[v][0]) for v in holders if v != u}
        sealed = {
            v: seal(share_key(secret, sid, u, v), both[v], share_data(sid, u, v), rng)
            for v, secret in agreed.items()
        }
        incoming = {v: share_key(secret, sid, v, u) for v, secret in agreed.items()}
        # c_u^SK ends here: what is kept opens what u's dealers sealed for u, and deals nothing more.
        state = AwaitingMaskedInput(session, self.s_sk, b_u, incoming, both.get(u, b""))
        return state, self._signed(sid, sealed, b_u, both)

    def _check_U1(self, keys: AdvertisedKeys) -> None:
        own = keys.get(self.terms.u)
        if own is None or own[:2] != (self.c_sk.public, self.s_sk.public):
            raise RemoteProtocolError("the server's key list does not hold this client's own keys")
        # A group with who is not of the cohort would be cut otherwise than it seems.
        if not self.terms.parameters.sums.takes(keys.keys()):
            raise RemoteProtocolError("the server's key list holds clients who are not of the cohort it cuts")
        # Fewer can never be a U3; more than n would leave room for two groups of t that share no member.
        least, most = self.terms.parameters.m_min, self.terms.parameters.clients
        if not least <= len(keys) <= most:
            raise RemoteProtocolError(f"{len(keys)} clients advertised keys; it takes {least} to {most}")
        # "assert that all public key pairs are different", as bytes: a point has several encodings, but ids
        # are in every key that is derived, so that no two masks would cancel either.
        if len({key for c_pk, s_pk, _ in keys.values() for key in (c_pk, s_pk)}) != 2 * len(keys):
            raise RemoteProtocolError("the server's key list holds one key twice")

    def _check_signatures(self, keys: AdvertisedKeys) -> None:
        """ "assert that all signatures are valid": of the whole cohort, whoever u's neighbours are."""
        roster, of_keys = self.terms.roster, self.terms.of_keys()
        for v, (c_pk, s_pk, signature) in keys.items():
            statement = partial(keys_statement, *of_keys, v, c_pk, s_pk)
            check_signed(
                roster,
                v,
                statement,
                signature,
                "keys that are",
                f"the keys the server shows for client {v} are not signed by that client of this roster "
                "for these parameters and this task",
            )

    def _signed(
        self, sid: bytes, sealed: dict[ClientId, bytes], b_u: bytes, both: Mapping[ClientId, bytes]
    ) -> ShareKeys:
        if self.terms.identity is None:
            return ShareKeys(sealed, b"", {}, b"")
        u = self.terms.u
        commitments = {v: commit_shares(sid, u, v, shares) for v, shares in both.items()}
        unsigned = ShareKeys(sealed, commit_mask(sid, u, b_u), commitments, b"")
        signature = self.terms.sign(shares_statement(sid, u, unsigned))
        return ShareKeys(sealed, unsigned.commitment, commitments, signature)


@dataclass(frozen=True, slots=True)
class AwaitingMaskedInput(NeverPickled):
    """After ShareKeys. Used once: a second call would reuse the masks.

    Security: holds s_u^SK, b_u, and the keys that open the shares of the others.
    """

    session: Session
    s_sk: SecretKey = field(repr=False)
    b_u: bytes = field(repr=False)
    incoming: Mapping[ClientId, bytes] = field(repr=False)
    own_shares: bytes = field(repr=False)

    def mask_input(
        self, request: MaskedInputRequest, x_u: Mapping[str, Words], bits: Mapping[str, int]
    ) -> tuple[AwaitingConsistencyCheck | AwaitingUnmasking, MaskedInput]:
        """Mask the encoded vectors, in place, for U2: those whose sealed shares arrived.

        x_u: name -> (m,) words in [0, 2^b). bits: name -> b.
        Raises: RemoteProtocolError if U2 is not within U1, lacks u, is smaller than m_min, has fewer than m_g
        of u's group or than t of u's holders, or if what was dealt is not from exactly these; or if a vector
        of u's has left in like sessions of another frame (`Class.leave`).
        """
        session, prg = self.session, self.session.terms.parameters.prg
        U2 = self._check_U2(request)
        holders = session.held(U2)
        # Of a dealer whose shares are kept back u could return none, and short of t who can the sum is lost.
        if request.dealt.keys() != set(holders) - {session.u}:
            raise RemoteProtocolError("the server passes on shares from others than this client's dealers")
        signed = session.terms.identity is not None
        # Without its commitment a false share would be returned for a right one, and u be blamed for it.
        if any((delivery.commitments is not None) != signed for delivery in request.dealt.values()):
            raise RemoteProtocolError("commitments are there against an active server, and only then")
        agreed = {v: self.s_sk.agree(s_pk) for v, s_pk in session.neighbours.items() if v in U2}
        # Last of the checks, since it puts the upload on record: others may sign a sum that u is in.
        if session.terms.like is not None:
            session.terms.parameters.sums.leave_alike(session.terms.like, session.cut)
        # In place: of what was encoded no copy without a mask is left.
        for name, y in x_u.items():
            put_on(y, session.sid, session.u, name, self.b_u, agreed, prg)
        masked = MaskedInput([memoryview(pack(x_u[name], bits[name])) for name in sorted(x_u)])
        holding = Holding(session, U2, holders, self.incoming, request.dealt, self.own_shares)
        if session.terms.identity is None:
            return AwaitingUnmasking(holding), masked
        return AwaitingConsistencyCheck(holding, session.terms.identity), masked

    def _check_U2(self, request: MaskedInputRequest) -> frozenset[ClientId]:
        U1, U2, needed = self.session.U1, frozenset(request.shared), self.session.terms.parameters.m_min
        if not U2 <= U1:
            raise RemoteProtocolError("the server lists a client as having shared that advertised no keys")
        if self.session.u not in U2:
            raise RemoteProtocolError("the server counts this client as dropped and asks it all the same")
        # U3 is within U2: of fewer nothing would ever be unmasked, and an upload would be for nothing.
        if len(U2) < needed:
            raise RemoteProtocolError(f"{len(U2)} clients shared keys, {needed} are needed")
        # With fewer u would mask its vector with so few that all of them may be corrupt, or said to be lost.
        group, least = self.session.group & U2, self.session.terms.parameters.sums.least
        if len(group) < least:
            raise RemoteProtocolError(
                f"{len(group)} clients of this one's group shared keys, {least} are needed"
            )
        return U1 if U2 == U1 else U2  # kept once


@dataclass(frozen=True, slots=True)
class Holding(NeverPickled):
    """What the others dealt to u, still sealed, and what opens it. holders: the dealers in U2; u too, on the
    complete graph.

    Security: `reveal` is called once a session; a second call could give the second share of one client.
    """

    session: Session
    U2: frozenset[ClientId]
    holders: Collection[ClientId]
    incoming: Mapping[ClientId, bytes] = field(repr=False)
    dealt: Mapping[ClientId, Delivery] = field(repr=False)
    own_shares: bytes = field(repr=False)

    def reveal(self, dropped: frozenset[ClientId], opened: Iterable[frozenset[ClientId]]) -> Unmasking:
        """One share of each v that dealt to u: of s_v^SK where v was dropped, of b_v where it survived; of a
        group whose sum is not opened neither.

        A share that does not open, is no element of the field, or is not what its dealer committed to, is
        left out: it is the dealer's or the server's fault, and t others suffice.
        """
        shares: dict[int, SelfMaskShare | PairKeyShare] = {}
        summed = frozenset[ClientId]().union(*opened)
        for v in (v for v in self.holders if v in summed):
            both = self._open(v)
            if both is not None:
                of_key, of_mask = halves(both)
                shares[v] = PairKeyShare(of_key) if v in dropped else SelfMaskShare(of_mask)
        return Unmasking(shares)

    def statement(self, U3: frozenset[ClientId]) -> bytes:
        """What u signs of U3, and of the other sets as it was shown them."""
        sid, terms = self.session.sid, self.session.terms
        return members_statement(sid, terms.parameters.digest(), terms.context, self.session.U1, self.U2, U3)

    def _open(self, v: ClientId) -> bytes | None:
        u, sid = self.session.u, self.session.sid
        if v == u:
            return self.own_shares
        signed = self.session.terms.identity is not None
        return open_dealt(self.dealt[v], self.incoming[v], sid, v, u, signed=signed)


@dataclass(frozen=True, slots=True)
class AwaitingUnmasking(NeverPickled):
    """After the masked input has left, semi-honest server. Used once."""

    holding: Holding = field(repr=False)

    def unmask(self, request: UnmaskingRequest) -> Unmasking:
        """Raises: RemoteProtocolError if a dropped id is u's or not in U2, fewer than m_min survive, or not
        by whole batches.
        """
        session, U2 = self.holding.session, self.holding.U2
        dropped = frozenset(request.dropped)
        if not dropped <= U2:
            raise RemoteProtocolError("the server names a dropped client that had shared no keys")
        U3 = U2 - dropped
        _check_U3(session, U3)
        return self.holding.reveal(dropped, session.opened(U3))


@dataclass(frozen=True, slots=True)
class AwaitingConsistencyCheck(NeverPickled):
    """After the masked input has left, active server. Used once: u signs one U3 and no other."""

    holding: Holding = field(repr=False)
    identity: Identity = field(repr=False)

    def check(self, request: ConsistencyCheckRequest) -> tuple[AwaitingSignatures, ConsistencyCheck]:
        """Sign the whole U1, U2 and U3, as the server showed them to u.

        Raises: RemoteProtocolError if U3 is not within U2, lacks u, is smaller than m_min, or is not made of
        whole batches.
        """
        session, U2 = self.holding.session, self.holding.U2
        U3 = frozenset(request.survivors)
        if not U3 <= U2:
            raise RemoteProtocolError("the server names a survivor that had shared no keys")
        _check_U3(session, U3)
        statement = self.holding.statement(U3)
        state = AwaitingSignatures(self.holding, self.identity, U3, statement)
        return state, ConsistencyCheck(self.identity.key.sign(statement))


@dataclass(frozen=True, slots=True)
class AwaitingSignatures(NeverPickled):
    """After ConsistencyCheck. Used once. The dropped are U2 minus the U3 it signed, and no other set."""

    holding: Holding = field(repr=False)
    identity: Identity = field(repr=False)
    U3: frozenset[ClientId]
    statement: bytes = field(repr=False)

    def unmask(self, request: SignedUnmaskingRequest) -> Unmasking:
        """Reveal, once m_min members of U3 have signed exactly what u signed, and of the groups of which m_g
        have.

        m_min > (n + A) / 2 >= (|U1| + A) / 2: of one cohort any two such quorums share an honest client that
        signs once, so that all that unmask, unmask the same U3; of the whole cohort, whatever the graph, for
        neighbours alone can be told different things. And m_min, not the quorum of U1: a U3 is the server's
        claim, only who signed has been there. In a group likewise: who signed has seen one U2, so that the
        masks of these cancel only together; and of any other who is in U3 one of the masks is with them.

        Raises: RemoteProtocolError if fewer signatures of members of U3 verify.
        """
        session, roster = self.holding.session, self.identity.roster
        parameters = session.terms.parameters
        needed, least = parameters.m_min, parameters.sums.least
        signed: set[ClientId] = set()
        for group in session.cut:
            there = group & self.U3
            valid = (
                v
                for v, signature in request.signatures.items()
                if v in there and roster.signed_by(v, self.statement, signature)
            )
            signed |= set(islice(valid, max(least, needed - len(signed))))  # more would tell nothing more
        if len(signed) < needed:
            raise RemoteProtocolError(
                f"{len(signed)} clients signed the survivors this client was shown, {needed} are needed"
            )
        return self.holding.reveal(self.holding.U2 - self.U3, session.opened(frozenset(signed)))


def _check_U3(session: Session, U3: frozenset[ClientId]) -> None:
    """Before u signs U3, or where nothing is signed before it reveals a share.

    Raises: RemoteProtocolError if U3 lacks u, is smaller than m_min, has no group that is opened, is not made
    of whole batches, or is too near to sets of like sessions.
    """
    terms, parameters = session.terms, session.terms.parameters
    if session.u not in U3:
        raise RemoteProtocolError("the server counts this client as dropped and asks it all the same")
    if len(U3) < parameters.m_min:
        raise RemoteProtocolError(f"{len(U3)} clients survive, {parameters.m_min} are needed")
    opened = session.opened(U3)
    if not opened:
        raise RemoteProtocolError(
            f"no group has {parameters.sums.least} survivors, who are needed to open its sum"
        )
    # So et al. (2021): sums of whole batches of one fixed partition tell no less than a batch apart, however
    # many of them a server collects.
    batches = parameters.batches(terms.roster)
    for batch in batches:
        if 0 < len(batch & U3) < len(batch):
            raise RemoteProtocolError(
                f"the server sums a part of a batch, clients {min(batch)} to {max(batch)}"
            )
    # Last, since it puts U3 on record: of like sessions u helps to at most two different sums, and a set that
    # was refused above is none of them.
    if terms.like is None:
        return
    for group in opened:
        # Where nothing is signed any t holders open a group, whether its own members would or not; else it
        # takes m_g of these.
        if group == session.group or terms.identity is None:
            parameters.sums.sign_alike(terms.like, group & U3, batches, session.cut)
