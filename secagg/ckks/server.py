"""The server of a CKKS session. It adds ciphertexts, which to it are residues and no more: it has neither key
nor TenSEAL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from secagg.ckks.derived import (
    key_statement,
    makers_of,
    releasers_of,
    secret_statement,
    session_id,
    upload_digest,
    upload_statement,
)
from secagg.ckks.flooding import Released, from_grid, majority, of_bytes
from secagg.ckks.messages import (
    DECRYPT,
    SHARE_KEYS,
    AdvertiseCkksKey,
    Ciphertexts,
    CiphertextsRequest,
    Decrypted,
    DecryptRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.ckks.packing import add_residues, pack_residues, unpack_residues
from secagg.ckks.ring import Residues
from secagg.crypto import AE_OVERHEAD, KEY_BYTES, Rng, check_public_key, system_rng
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, TooFewClients
from secagg.identity import Roster, check_signed
from secagg.rounds import RoundServer
from secagg.session import Aggregate
from secagg.wire import Raw, decode, encode

if TYPE_CHECKING:
    from secagg.ckks import CKKS


class CKKSServer(RoundServer):
    """One session of the server (`session.ServerSession`).

    result: who is in the sum, and the sum where it is released; where clients keep it, looking for it is an
    error. caught: who released another sum than the majority.
    """

    _parameters: CKKS

    def __init__(
        self,
        parameters: CKKS,
        cohort: Collection[ClientId],
        task: bytes,
        context: bytes,
        *,
        roster: Roster | None = None,
        rng: Rng = system_rng,
    ) -> None:
        super().__init__(parameters, cohort, task, rng(KEY_BYTES))
        parameters.check_roster(roster)
        self._plan, self._roster, self._context = parameters.plan, roster, context
        self._keys: dict[ClientId, tuple[bytes, bytes]] = {}  # U1
        self._public: set[bytes] = set()
        self._sid = b""
        self._made: dict[ClientId, ShareCkksKey] = {}
        self._total: Residues = np.empty(0, np.uint64)
        self._survivors: frozenset[ClientId] = frozenset()
        self._releasers: frozenset[ClientId] = frozenset()
        self._released: dict[ClientId, Released] = {}

    def _take(self, u: ClientId, message: Raw) -> None:
        match self.round:
            case "advertise-keys":
                self._advertised(u, decode(AdvertiseCkksKey, message))
            case "share-keys":
                self._shared(u, decode(ShareCkksKey, message))
            case "input":
                self._uploaded(u, decode(Ciphertexts, message))
            case _:
                self._decrypted(u, decode(Decrypted, message))

    def _going_on(self, closing: str, alive: frozenset[ClientId]) -> frozenset[ClientId]:
        needed = 0 if closing == DECRYPT else self._parameters.m_min  # of the last, `_finish` knows
        if len(alive) < needed:
            raise TooFewClients(len(alive), needed, closing)
        return alive

    def _open(self, closing: str, alive: frozenset[ClientId]) -> dict[ClientId, bytes]:
        match closing:
            case "advertise-keys":
                return self._open_share_keys(alive)
            case "share-keys":
                return self._open_input(alive)
            case "input":
                return self._open_decrypt(alive)
            case _:
                self.result = self._finish(alive)
                return {}

    def _check_signed(self, u: ClientId, statement: Callable[[], bytes], signature: bytes, what: str) -> None:
        check_signed(self._roster, u, statement, signature, what, f"{what} without its signature")

    # AdvertiseKeys

    def _advertised(self, u: ClientId, message: AdvertiseCkksKey) -> None:
        check_public_key(message.c_pk)  # else every other client would fail on it
        if message.c_pk in self._public:
            raise RemoteProtocolError("advertised a key that is already in use")
        listed = b"" if self._roster is None else self._roster.digest
        terms = self._digest, listed, self._context, self._nonce
        statement = partial(key_statement, *terms, u, message.c_pk)
        self._check_signed(u, statement, message.signature, "advertised a key that is")
        self._public.add(message.c_pk)
        self._keys[u] = (message.c_pk, message.signature)

    # ShareKeys

    def _open_share_keys(self, U1: frozenset[ClientId]) -> dict[ClientId, bytes]:
        self._keys = {u: self._keys[u] for u in sorted(U1)}
        self._sid = session_id(self._nonce, self._digest, self._context, self._keys)
        return dict.fromkeys(self._keys, encode(ShareCkksKeyRequest(self._keys)))

    def _makers(self) -> list[ClientId]:
        return makers_of(self._keys)

    def _shared(self, u: ClientId, message: ShareCkksKey) -> None:
        if u not in self._makers():
            if message.secret or message.sealed or message.signature:
                raise RemoteProtocolError("made a key, and was not to make one")
            return
        if len(message.secret) != self._plan.ring.key_bytes + AE_OVERHEAD:
            raise RemoteProtocolError("made no key, or one of another ring")
        if message.sealed.keys() != self._keys.keys() - {u}:
            raise RemoteProtocolError("made a key for others than the clients of this session")
        statement = partial(secret_statement, self._sid, u, message.secret)
        self._check_signed(u, statement, message.signature, "made a key that is")
        self._made[u] = message

    # Input

    def _open_input(self, U2: frozenset[ClientId]) -> dict[ClientId, bytes]:
        made = [u for u in self._makers() if u in U2]
        if not made:
            raise TooFewClients(0, 1, SHARE_KEYS)
        maker = made[0]
        chosen, self._made = self._made[maker], {}  # the other makers' keys are let go: nobody needs them
        ring = self._plan.ring
        self._total = np.zeros((self._plan.ciphertexts, 2, len(ring.primes), ring.degree), np.uint64)
        request = CiphertextsRequest(maker, chosen.secret, chosen.sealed, chosen.signature)
        return dict.fromkeys(sorted(U2), encode(request))

    def _uploaded(self, u: ClientId, message: Ciphertexts) -> None:
        plan = self._plan
        if len(message.residues) != plan.upload_bytes:
            raise RemoteProtocolError(
                f"ciphertexts of {len(message.residues)} bytes, not {plan.upload_bytes}"
            )
        if upload_digest(self._sid, u, message.residues) != message.digest:
            raise RemoteProtocolError("ciphertexts with another digest than their sender's")
        statement = partial(upload_statement, self._sid, u, message.digest)
        self._check_signed(u, statement, message.signature, "ciphertexts that are")
        # All is checked before any is added: half an upload could never be taken out of the sum again.
        residues = unpack_residues(plan.ring, plan.ciphertexts, message.residues)
        add_residues(plan.ring, self._total, residues)

    # Decrypt

    def _open_decrypt(self, U3: frozenset[ClientId]) -> dict[ClientId, bytes]:
        self._survivors = U3
        total = pack_residues(self._plan.ring, self._total)
        self._total = np.empty(0, np.uint64)  # let go before the messages are made
        survivors = sorted(U3)
        release = self._parameters.ending == "release"
        asked = frozenset(releasers_of(survivors) if release else survivors)
        self._releasers = asked if release else frozenset()
        whole, nothing = (encode(DecryptRequest(survivors, memoryview(part))) for part in (total, b""))
        return {u: whole if u in asked else nothing for u in survivors}

    def _decrypted(self, u: ClientId, message: Decrypted) -> None:
        if u not in self._releasers:
            if len(message.released):
                raise RemoteProtocolError("released a sum, and was not to release it")
            return
        released = of_bytes(message.released, self._plan.slots)
        if released is None:
            raise RemoteProtocolError(f"released {len(message.released)} bytes, not {8 * self._plan.slots}")
        self._released[u] = released

    def _finish(self, alive: frozenset[ClientId]) -> Aggregate:
        if self._parameters.ending == "keep":
            if not alive:
                raise TooFewClients(0, 1, DECRYPT)
            nothing = Kept()
            return Aggregate(self._survivors, nothing, nothing, nothing, nothing)
        # By ascending id: where several have as many on their side, `majority` takes the first.
        released = {u: self._released[u] for u in sorted(self._releasers & alive)}
        # Of those who were asked, not of those who answered: one that was alone could say anything.
        needed = len(self._releasers) // 2 + 1
        if len(released) < needed:
            raise TooFewClients(len(released), needed, DECRYPT)
        agreed = majority(released, needed)
        if agreed is None:
            raise RemoteProtocolError("no majority of the clients that released the sum released the same")
        values, liars = agreed
        self.caught = dict.fromkeys(liars, "released another sum than the others")
        return self._parameters.aggregate(self._survivors, self._plan.from_slots(from_grid(values)))


class Kept(Mapping[str, Any]):
    """What a server has of a sum that its clients keep: nothing, and it says so."""

    def __getitem__(self, name: str) -> NoReturn:
        self._refuse()

    def __iter__(self) -> NoReturn:
        self._refuse()

    def __len__(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise LocalProtocolError("the clients keep this sum: the server never has it")
