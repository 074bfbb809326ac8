"""The server of a CKKS session. It adds ciphertexts, which to it are residues and no more: it has neither key
nor TenSEAL.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from secagg.aggregate import Aggregate
from secagg.ckks.derived import releasers_of, upload_digest, upload_statement
from secagg.ckks.flooding import Released, from_grid, majority, of_bytes
from secagg.ckks.messages import DECRYPT, Ciphertexts, Decrypted, DecryptRequest
from secagg.ckks.packing import add_residues, pack_residues, unpack_residues
from secagg.ckks.ring import Residues
from secagg.ckks.rounds import Kept, KeySharingServer
from secagg.crypto import Rng, system_rng
from secagg.errors import ClientId, RemoteProtocolError, TooFewClients
from secagg.identity import Roster
from secagg.wire import Raw, decode, encode

if TYPE_CHECKING:
    from secagg.ckks import CKKS


class CKKSServer(KeySharingServer):
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
        super().__init__(parameters, cohort, task, context, roster=roster, rng=rng)
        ring = self._plan.ring
        self._total: Residues = np.zeros(
            (self._plan.ciphertexts, 2, len(ring.primes), ring.degree), np.uint64
        )
        self._survivors: frozenset[ClientId] = frozenset()
        self._releasers: frozenset[ClientId] = frozenset()
        self._released: dict[ClientId, Released] = {}

    def _uploaded(self, u: ClientId, raw: Raw) -> None:
        message, plan = decode(Ciphertexts, raw), self._plan
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

    def _decrypted(self, u: ClientId, raw: Raw) -> None:
        message = decode(Decrypted, raw)
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
