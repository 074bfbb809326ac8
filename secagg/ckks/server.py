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
    ADVERTISE_KEYS,
    DECRYPT,
    INPUT,
    SHARE_KEYS,
    AdvertiseCkksKey,
    Ciphertexts,
    CiphertextsRequest,
    Decrypted,
    DecryptRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.ckks.packing import Residues, add_residues, pack_residues, unpack_residues
from secagg.crypto import AE_OVERHEAD, KEY_BYTES, NeverPickled, Rng, check_public_key, system_rng
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, TooFewClients
from secagg.identity import Roster
from secagg.params import check_cohort
from secagg.session import Aggregate
from secagg.wire import Raw, Task, check_join, decode, encode

if TYPE_CHECKING:
    from secagg.ckks import CKKS

JOIN = "join"
DONE = "done"


class CKKSServer(NeverPickled):
    """One session of the server (`session.ServerSession`).

    result: who is in the sum, and the sum where it is released; where clients keep it, looking for it is an
    error. caught: who released another sum than the majority.
    """

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
        check_cohort(cohort, parameters.clients)
        parameters.check_roster(roster)
        self._parameters, self._digest, self._plan = parameters, parameters.digest(), parameters.plan
        self._roster, self._task, self._context = roster, task, context
        self._nonce = rng(KEY_BYTES)
        self.round = JOIN
        self.waiting_for = frozenset(cohort)
        self.result: Aggregate | None = None
        self.unopened: frozenset[tuple[ClientId, ClientId]] = frozenset()  # nothing is shared
        self.caught: dict[ClientId, str] = {}
        self._answered: set[ClientId] = set()
        self._lost: set[ClientId] = set()
        self._keys: dict[ClientId, tuple[bytes, bytes]] = {}  # U1
        self._public: set[bytes] = set()
        self._sid = b""
        self._made: dict[ClientId, ShareCkksKey] = {}
        self._total: Residues = np.empty(0, np.uint64)
        self._survivors: frozenset[ClientId] = frozenset()
        self._releasers: frozenset[ClientId] = frozenset()
        self._released: dict[ClientId, Released] = {}

    def receive(self, sender: ClientId, message: Raw) -> None:
        if sender not in self.waiting_for:
            self._lost.add(sender)
            raise RemoteProtocolError(f"client {sender} is not expected in round {self.round}", {sender})
        self.waiting_for -= {sender}
        try:
            match self.round:
                case "join":
                    check_join(message, self._digest)
                case "advertise-keys":
                    self._advertised(sender, decode(AdvertiseCkksKey, message))
                case "share-keys":
                    self._shared(sender, decode(ShareCkksKey, message))
                case "input":
                    self._uploaded(sender, decode(Ciphertexts, message))
                case _:
                    self._decrypted(sender, decode(Decrypted, message))
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"client {sender}, {self.round}: {error}", {sender}) from None
        self._answered.add(sender)

    def advance(self) -> dict[ClientId, bytes]:
        if self.round == DONE:
            raise LocalProtocolError("this session is over: make a new one")
        closing, self.round, self.waiting_for = self.round, DONE, frozenset()
        # What was added cannot be taken back: its sender stays in the sum, as one lost in the next round.
        kept = set() if closing == INPUT else self._lost
        alive, self._answered = frozenset(self._answered - kept), set()
        if closing == DECRYPT:
            self.result = self._finish(alive)
            return {}
        if len(alive) < self._parameters.m_min:
            raise TooFewClients(len(alive), self._parameters.m_min, closing)
        match closing:
            case "join":
                requests = dict.fromkeys(sorted(alive), encode(Task(self._nonce, self._task)))
                self.round = ADVERTISE_KEYS
            case "advertise-keys":
                requests = self._open_share_keys(alive)
                self.round = SHARE_KEYS
            case "share-keys":
                requests = self._open_input(alive)
                self.round = INPUT
            case _:
                requests = self._open_decrypt(alive)
                self.round = DECRYPT
        self.waiting_for = alive - self._lost
        return {u: request for u, request in requests.items() if u in self.waiting_for}

    def _check_signed(self, u: ClientId, statement: Callable[[], bytes], signature: bytes, what: str) -> None:
        if (roster := self._roster) is None:
            if signature:
                raise RemoteProtocolError(f"{what} signed in a session where nothing is signed")
        elif not roster.signed_by(u, statement(), signature):
            raise RemoteProtocolError(f"{what} without its signature")

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
        chosen, self._made = self._made[maker], {}
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
        self._total = np.empty(0, np.uint64)
        survivors = sorted(U3)
        release = self._parameters.ending == "release"
        asked = releasers_of(survivors) if release else survivors
        self._releasers = frozenset(asked if release else ())
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
        released = {u: self._released[u] for u in sorted(self._releasers & alive)}
        needed = len(self._releasers) // 2 + 1
        if len(released) < needed:
            raise TooFewClients(len(released), needed, DECRYPT)
        agreed = majority(released, needed)
        if agreed is None:
            raise RemoteProtocolError("no majority of the clients that released the sum released the same")
        values, liars = agreed
        self.caught = dict.fromkeys(liars, "released another sum than the others")
        return self._parameters.aggregate(self._survivors, self._plan.decode(from_grid(values)))


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
