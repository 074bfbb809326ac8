"""The server of a session of decoys. It multiplies each candidate by its selector and adds up, in numpy: it
has neither key nor TenSEAL, and what it computes with are numbers, each checked against its prime.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from secagg.aggregate import Aggregate
from secagg.ckks.messages import DECRYPT, Decrypted, DecryptRequest
from secagg.ckks.packing import pack_residues, unpack_residues
from secagg.ckks.ring import Residues
from secagg.ckks.rounds import Kept, KeySharingServer
from secagg.crypto import Rng, system_rng
from secagg.decoys.derived import candidates_digest, candidates_statement
from secagg.decoys.messages import Candidates
from secagg.decoys.transform import transform
from secagg.errors import ClientId, RemoteProtocolError, TooFewClients
from secagg.identity import Roster
from secagg.wire import Raw, decode, encode

if TYPE_CHECKING:
    from secagg.decoys import Decoys


class DecoysServer(KeySharingServer):
    """One session of the server (`session.ServerSession`).

    result: who is in the sum; the clients keep it, and looking for it is an error.
    """

    _parameters: Decoys

    def __init__(
        self,
        parameters: Decoys,
        cohort: Collection[ClientId],
        task: bytes,
        context: bytes,
        *,
        roster: Roster | None = None,
        rng: Rng = system_rng,
    ) -> None:
        super().__init__(parameters, cohort, task, context, roster=roster, rng=rng)
        plan, ring = self._plan, self._plan.ring
        self._transforms = [transform(ring.degree, q) for q in ring.primes]
        # (p, 2, L, N) values of the sum's polynomials: they are coefficients again only when all are added.
        self._total: Residues = np.zeros((plan.polynomials, 2, len(ring.primes), ring.degree), np.uint64)
        self._survivors: frozenset[ClientId] = frozenset()

    def _uploaded(self, u: ClientId, raw: Raw) -> None:
        message, plan = decode(Candidates, raw), self._plan
        if candidates_digest(self._sid, u, message.vectors, message.selectors) != message.digest:
            raise RemoteProtocolError("candidates with another digest than their sender's")
        statement = partial(candidates_statement, self._sid, u, message.digest)
        self._check_signed(u, statement, message.signature, "candidates that are")
        # All is checked before any is added: half an upload could never be taken out of the sum again.
        plan.check(message.vectors)
        selectors = unpack_residues(plan.ring, plan.candidates, message.selectors)
        for x, selector in zip(plan.unpack(message.vectors), selectors, strict=True):
            for i, (q, transformed) in enumerate(zip(plan.ring.primes, self._transforms, strict=True)):
                values = transformed.forward(np.mod(x, q).astype(np.uint64))
                chosen = transformed.forward(selector[:, i])
                for half in range(2):
                    column, products = self._total[:, half, i], values * chosen[half]
                    products += column  # below 2^60 + 2^30
                    np.remainder(products, np.uint64(q), out=column)

    def _open_decrypt(self, U3: frozenset[ClientId]) -> dict[ClientId, bytes]:
        self._survivors = U3
        for i, transformed in enumerate(self._transforms):
            self._total[:, :, i] = transformed.back(self._total[:, :, i])
        total = pack_residues(self._plan.ring, self._total)
        self._total = np.empty(0, np.uint64)  # let go before the messages are made
        return dict.fromkeys(sorted(U3), encode(DecryptRequest(sorted(U3), memoryview(total))))

    def _decrypted(self, u: ClientId, raw: Raw) -> None:
        if len(decode(Decrypted, raw).released):
            raise RemoteProtocolError("released a sum, and was not to release it")

    def _finish(self, alive: frozenset[ClientId]) -> Aggregate:
        if not alive:
            raise TooFewClients(0, 1, DECRYPT)
        nothing = Kept()
        return Aggregate(self._survivors, nothing, nothing, nothing, nothing)
