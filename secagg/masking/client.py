"""Client u of the protocol (Bonawitz et al., CCS 2017, figure 4): one type for each thing it can await.

A transition takes the server's message and returns the next state with the reply. A state is used once;
an exception leaves the session dead and its secrets dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from secagg.crypto import (
    KEY_BYTES,
    PROTOCOL_VERSION,
    NeverPickled,
    Rng,
    SecretKey,
    Tag,
    digest,
    kdf,
    seal,
    system_rng,
    unseal,
)
from secagg.encoding import Clipping, Vector, check_vectors, encode, pack, weight_of
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError
from secagg.masking.messages import (
    AdvertiseKeys,
    MaskedInput,
    MaskedInputRequest,
    PairKeyShare,
    SelfMaskShare,
    ShareKeys,
    ShareKeysRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.params import Parameters, named_values
from secagg.prg import PRG_KEY_BYTES, Words, add_mask, subtract_mask
from secagg.session import Contribute
from secagg.shamir import SHARE_BYTES, share
from secagg.wire import MAX_ID, Join, Raw, Task, decode
from secagg.wire import encode as to_bytes

Codes = Mapping[str, Words]
KeyPairs = Mapping[ClientId, tuple[bytes, bytes]]


def encode_inputs(
    parameters: Parameters, inputs: Mapping[str, Vector] | Vector, context: bytes, rounding_seed: bytes
) -> tuple[dict[str, Words], dict[str, Clipping]]:
    """x_u, a client's vectors in their rings, by name; and what encoding changed.

    Raises: LocalProtocolError if a vector is not as its specification says.
    """
    specs = parameters.vectors
    values = check_vectors(specs, named_values(inputs))
    weight = weight_of(specs, values)
    x_u, clipping = {}, {}
    for name, x in values.items():
        key = kdf(Tag.ROUNDING, rounding_seed, context, name, length=PRG_KEY_BYTES)
        x_u[name], clipping[name] = encode(
            specs[name], x, clients=parameters.clients, rounding_key=key, weight=weight
        )
    return x_u, clipping


@dataclass(frozen=True, slots=True)
class Terms:
    """What client u knows before any key is seen: n, t, the parameters' digest, the context, the nonce."""

    u: ClientId
    clients: int
    threshold: int
    parameters: bytes
    context: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """What all of U1 agree on once the server has shown the keys."""

    u: ClientId
    threshold: int
    sid: bytes
    keys: KeyPairs  # U1: v -> (c_v^PK, s_v^PK)


def session_id(nonce: bytes, parameters: bytes, context: bytes, keys: KeyPairs) -> bytes:
    """Fresh for every client whose own fresh keys are in it, whatever the server sends."""
    listed = b"".join(v.to_bytes(4, "big") + c_pk + s_pk for v, (c_pk, s_pk) in sorted(keys.items()))
    return digest(Tag.SESSION, nonce, parameters, context, listed)


def share_key(secret: bytes, sid: bytes, dealer: ClientId, holder: ClientId) -> bytes:
    """KA.agree(c_dealer^SK, c_holder^PK) as the AE key of one direction."""
    return kdf(Tag.SHARE_KEY, secret, sid, dealer, holder)


def share_data(sid: bytes, dealer: ClientId, holder: ClientId) -> bytes:
    return digest(Tag.SHARE_DATA, sid, dealer, holder)


def self_mask_key(b_u: bytes, sid: bytes, u: ClientId, name: str) -> bytes:
    return kdf(Tag.SELF_MASK, b_u, sid, u, name, length=PRG_KEY_BYTES)


def pair_mask_key(s_uv: bytes, sid: bytes, u: ClientId, v: ClientId, name: str) -> bytes:
    """One key a pair and vector, the same at both ends."""
    return kdf(Tag.PAIR_MASK, s_uv, sid, min(u, v), max(u, v), name, length=PRG_KEY_BYTES)


def advertise_keys(terms: Terms, rng: Rng) -> tuple[AwaitingShareKeys, AdvertiseKeys]:
    """ "Generate key pairs (c_u^PK, c_u^SK), (s_u^PK, s_u^SK)." """
    c_sk, s_sk = SecretKey.generate(rng), SecretKey.generate(rng)
    return AwaitingShareKeys(terms, c_sk, s_sk, rng), AdvertiseKeys(c_sk.public, s_sk.public)


@dataclass(frozen=True, slots=True)
class AwaitingShareKeys(NeverPickled):
    """After AdvertiseKeys.

    Security: holds both secret keys.
    """

    terms: Terms
    c_sk: SecretKey = field(repr=False)
    s_sk: SecretKey = field(repr=False)
    rng: Rng = field(repr=False)

    def share_keys(self, request: ShareKeysRequest) -> tuple[AwaitingMaskedInput, ShareKeys]:
        """Share s_u^SK and b_u among U1 and seal each v's shares for v.

        Raises: RemoteProtocolError unless U1 has t to n members, u's own keys, and no key twice.
        """
        self._check_U1(request.keys)
        u, t, rng = self.terms.u, self.terms.threshold, self.rng
        sid = session_id(self.terms.nonce, self.terms.parameters, self.terms.context, request.keys)
        # "sample a random element b_u"; "generate t-out-of-|U1| shares of s_u^SK ... and of b_u"
        b_u = rng(KEY_BYTES)
        points = [v + 1 for v in request.keys]
        of_key = share(int.from_bytes(self.s_sk.expose(), "big"), t, points, rng)
        of_mask = share(int.from_bytes(b_u, "big"), t, points, rng)
        both = {
            v: of_key[v + 1].to_bytes(SHARE_BYTES, "big") + of_mask[v + 1].to_bytes(SHARE_BYTES, "big")
            for v in request.keys
        }
        # "e_uv <- AE.enc(KA.agree(c_u^SK, c_v^PK), u || v || shares)", and the key v will use for u.
        agreed = {v: self.c_sk.agree(c_pk) for v, (c_pk, _) in request.keys.items() if v != u}
        sealed = {
            v: seal(share_key(secret, sid, u, v), both[v], share_data(sid, u, v), rng)
            for v, secret in agreed.items()
        }
        incoming = {v: share_key(secret, sid, v, u) for v, secret in agreed.items()}
        session = Session(u, t, sid, request.keys)
        return AwaitingMaskedInput(session, self.s_sk, b_u, incoming, both[u]), ShareKeys(sealed)

    def _check_U1(self, keys: KeyPairs) -> None:
        if keys.get(self.terms.u) != (self.c_sk.public, self.s_sk.public):
            raise RemoteProtocolError("the server's key list does not hold this client's own keys")
        # More than n would leave room for two groups of t that share no member.
        least, most = self.terms.threshold, self.terms.clients
        if not least <= len(keys) <= most:
            raise RemoteProtocolError(f"{len(keys)} clients advertised keys; it takes {least} to {most}")
        # "assert that all public key pairs are different": the same point twice would cancel two masks.
        if len({key for pair in keys.values() for key in pair}) != 2 * len(keys):
            raise RemoteProtocolError("the server's key list holds one key twice")


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
    ) -> tuple[AwaitingUnmasking, MaskedInput]:
        """Mask the encoded vectors, in place, for U2: those whose sealed shares arrived, and u.

        x_u: name -> (m,) words in [0, 2^b). bits: name -> b.
        Raises: RemoteProtocolError if U2 is not within U1 or smaller than t.
        """
        U2 = self._check_U2(request)
        session = self.session
        # "y_u <- x_u + PRG(b_u) + sum over v in U2 of Delta_uv PRG(s_uv)  (mod R)"
        for name, y in x_u.items():
            add_mask(y, self_mask_key(self.b_u, session.sid, session.u, name))
        for v in sorted(U2 - {session.u}):
            s_uv = self.s_sk.agree(session.keys[v][1])
            apply = add_mask if session.u > v else subtract_mask
            for name, y in x_u.items():
                apply(y, pair_mask_key(s_uv, session.sid, session.u, v, name))
        packed = [memoryview(pack(x_u[name], bits[name])) for name in sorted(x_u)]
        state = AwaitingUnmasking(session, U2, self.incoming, request.sealed, self.own_shares)
        return state, MaskedInput(packed)

    def _check_U2(self, request: MaskedInputRequest) -> frozenset[ClientId]:
        others, u = request.sealed.keys(), self.session.u
        if u in others or not others <= self.session.keys.keys():
            raise RemoteProtocolError("the server passes on shares from clients that advertised no keys")
        if len(others) + 1 < self.session.threshold:
            raise RemoteProtocolError(
                f"{len(others) + 1} clients shared keys, {self.session.threshold} are needed"
            )
        return frozenset(others) | {u}


@dataclass(frozen=True, slots=True)
class AwaitingUnmasking(NeverPickled):
    """After the masked input has left. Used once: a second call could reveal a second kind of share.

    Security: holds what opens the others' shares, and u's own.
    """

    session: Session
    U2: frozenset[ClientId]
    incoming: Mapping[ClientId, bytes] = field(repr=False)
    sealed: Mapping[ClientId, bytes] = field(repr=False)
    own_shares: bytes = field(repr=False)

    def unmask(self, request: UnmaskingRequest) -> Unmasking:
        """One share of each v of U2: of s_v^SK where v was dropped, of b_v where it survived.

        A sealed share that does not open is left out: it is its dealer's or the server's fault, and t
        others suffice.

        Raises: RemoteProtocolError if a dropped id is u's, repeated or not in U2, or fewer than t are left.
        """
        dropped = self._check_dropped(request.dropped)
        shares: dict[int, SelfMaskShare | PairKeyShare] = {}
        for v in sorted(self.U2):
            both = self._open(v)
            if both is not None:
                of_key, of_mask = both[:SHARE_BYTES], both[SHARE_BYTES:]
                shares[v] = PairKeyShare(of_key) if v in dropped else SelfMaskShare(of_mask)
        return Unmasking(shares)

    def _open(self, v: ClientId) -> bytes | None:
        u, sid = self.session.u, self.session.sid
        if v == u:
            return self.own_shares
        return unseal(self.incoming[v], self.sealed[v], share_data(sid, v, u))

    def _check_dropped(self, listed: list[ClientId]) -> frozenset[ClientId]:
        dropped = frozenset(listed)
        if len(dropped) != len(listed):
            raise RemoteProtocolError("the server names a dropped client twice")
        if self.session.u in dropped:
            raise RemoteProtocolError("the server counts this client as dropped and asks it all the same")
        if not dropped <= self.U2:
            raise RemoteProtocolError("the server names a dropped client that had shared no keys")
        if len(self.U2) - len(dropped) < self.session.threshold:
            raise RemoteProtocolError(
                f"{len(self.U2) - len(dropped)} clients survive, {self.session.threshold} are needed"
            )
        return dropped


@dataclass(frozen=True, slots=True)
class _AwaitingTask:
    pass


_State = _AwaitingTask | AwaitingShareKeys | AwaitingMaskedInput | AwaitingUnmasking


class MaskingClient(NeverPickled):
    """The states behind the interface every scheme shares (`session.ClientSession`).

    Security: rounding_seed is a secret of this client; two sessions with the same seed and task round
    alike, and share no mask and no key.
    """

    def __init__(
        self,
        parameters: Parameters,
        threshold: int,
        u: ClientId,
        vectors: Contribute,
        *,
        rounding_seed: bytes | None = None,
        rng: Rng = system_rng,
    ) -> None:
        if not 0 <= u <= MAX_ID:
            raise LocalProtocolError(f"client id {u} is not in 0..{MAX_ID}")
        if rounding_seed is not None and len(rounding_seed) < KEY_BYTES:
            raise LocalProtocolError(f"a rounding seed has at least {KEY_BYTES} secret bytes")
        self._parameters, self._digest = parameters, parameters.digest()
        self._threshold, self._u, self._vectors, self._rng = threshold, u, vectors, rng
        self._rounding_seed = rounding_seed if rounding_seed is not None else rng(KEY_BYTES)
        self._x_u: dict[str, Words] = {}
        self._state: _State | None = None
        self._started = self.done = False
        self.clipping: dict[str, Clipping] = {}

    def start(self) -> bytes:
        if self._started:
            raise LocalProtocolError("this session has been started before: make a new one")
        self._started = True
        self._state = _AwaitingTask()
        return to_bytes(Join(PROTOCOL_VERSION, self._digest))

    def receive(self, message: Raw) -> bytes | None:
        # Taken out first: whatever is raised below, the session is over and its secrets are gone.
        state, self._state = self._state, None
        match state:
            case _AwaitingTask():
                task = decode(Task, message)
                context = digest(Tag.CONTEXT, task.task)
                # Asked for and encoded once, and never again under the same mask.
                self._x_u, self.clipping = encode_inputs(
                    self._parameters, self._vectors(task.task), context, self._rounding_seed
                )
                n, t = self._parameters.clients, self._threshold
                terms = Terms(self._u, n, t, self._digest, context, task.nonce)
                self._state, keys = advertise_keys(terms, self._rng)
                return to_bytes(keys)
            case AwaitingShareKeys():
                self._state, shares = state.share_keys(decode(ShareKeysRequest, message))
                return to_bytes(shares)
            case AwaitingMaskedInput():
                x_u, self._x_u = self._x_u, {}
                self._state, masked = state.mask_input(
                    decode(MaskedInputRequest, message), x_u, self._ring_bits()
                )
                return to_bytes(masked)
            case AwaitingUnmasking():
                reply = state.unmask(decode(UnmaskingRequest, message))
                self.done = True
                return to_bytes(reply)
            case _:
                raise LocalProtocolError("this session is over, or was never started")

    def _ring_bits(self) -> dict[str, int]:
        n = self._parameters.clients
        return {name: spec.ring_bits(n) for name, spec in self._parameters.vectors.items()}
