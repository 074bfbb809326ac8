"""A client of a CKKS session: one type for each thing it can await, as in `masking.client`.

One client makes the secret key, and seals it for the others through the server (`sharing`). All encrypt under
it; who is asked to decrypts the sum. Every client can read every upload: they do not see them, the server
does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from secagg.aggregate import Aggregate
from secagg.ckks.derived import flooding_key, releasers_of, upload_digest, upload_statement
from secagg.ckks.flooding import as_bytes, flood, slot_flooding
from secagg.ckks.messages import (
    Ciphertexts,
    CiphertextsRequest,
    Decrypted,
    DecryptRequest,
    ShareCkksKeyRequest,
)
from secagg.ckks.packing import pack_residues, unpack_residues
from secagg.ckks.sharing import (
    AwaitingCiphertextsRequest,
    AwaitingKeys,
    SessionKey,
    advertise_key,
    check_survivors,
)
from secagg.crypto import NeverPickled
from secagg.encoding import real_vector
from secagg.errors import ClientId, RemoteProtocolError
from secagg.inputs import checked
from secagg.specs import Bounded, weight_of
from secagg.states import AwaitingTask, StatefulClient, Terms
from secagg.wire import Raw, Task, decode, encode

if TYPE_CHECKING:
    from secagg.ckks import CKKS


def encrypt(
    state: AwaitingCiphertextsRequest, request: CiphertextsRequest, slots: NDArray[np.float64]
) -> tuple[AwaitingDecryptRequest, Ciphertexts]:
    """Raises: RemoteProtocolError unless a maker sealed its key for u, in this session."""
    key, terms, sid = state.open(request), state.terms, state.sid
    ring, u = terms.parameters.plan.ring, terms.u
    each = ring.slots
    residues = np.stack([key.keys.encrypt(slots[i : i + each]) for i in range(0, len(slots), each)])
    packed = pack_residues(ring, residues)
    made = upload_digest(sid, u, packed)
    signature = terms.sign(upload_statement(sid, u, made))
    return AwaitingDecryptRequest(terms, sid, state.U1, key), Ciphertexts(memoryview(packed), made, signature)


@dataclass(frozen=True, slots=True)
class AwaitingDecryptRequest(NeverPickled):
    """After Ciphertexts. Used once: a second sum under the same key is refused, whatever is asked for."""

    terms: Terms[CKKS]
    sid: bytes
    U1: frozenset[ClientId]
    key: SessionKey = field(repr=False)

    def decrypt(self, request: DecryptRequest) -> tuple[Aggregate | None, Decrypted]:
        """The sum, where u is to keep it; and what leaves: the flooded sum, where u is to release it.

        Raises: RemoteProtocolError unless u is in the sum, m_min clients are, and exactly who is to decrypt
        is sent it.
        """
        parameters, plan, u = self.terms.parameters, self.terms.parameters.plan, self.terms.u
        survivors = check_survivors(self.terms, self.U1, request)
        # Who is not to decrypt is sent nothing: it is one decryption less that a server could ask for.
        if parameters.ending == "release" and u not in releasers_of(survivors):
            if len(request.residues):
                raise RemoteProtocolError("a sum for a client that is not to decrypt it")
            return None, Decrypted(memoryview(b""))
        residues = unpack_residues(plan.ring, plan.ciphertexts, request.residues)
        slots = np.concatenate([self.key.keys.decrypt(each) for each in residues])[: plan.slots]
        if parameters.ending == "keep":
            return parameters.aggregate(survivors, plan.from_slots(slots)), Decrypted(memoryview(b""))
        return None, Decrypted(memoryview(as_bytes(self._flood(slots, request))))

    def _flood(self, slots: NDArray[np.float64], request: DecryptRequest) -> NDArray[np.int64]:
        parameters = self.terms.parameters
        std = slot_flooding(parameters.plan, parameters.clients, parameters.flood_bits)
        return flood(slots, std, flooding_key(self.key.K, self.sid, request.residues))


_State = AwaitingTask | AwaitingKeys | AwaitingCiphertextsRequest | AwaitingDecryptRequest


class CKKSClient(StatefulClient):
    """One client's side of a CKKS session (`session.ClientSession`)."""

    _parameters: CKKS

    def _step(self, state: _State, message: Raw) -> bytes:
        match state:
            case AwaitingTask():
                return self._take_task(decode(Task, message))
            case AwaitingKeys():
                self._state, answer = state.make_key(decode(ShareCkksKeyRequest, message))
                return encode(answer)
            case AwaitingCiphertextsRequest():
                slots = self._take_encoded()
                self._state, upload = encrypt(state, decode(CiphertextsRequest, message), slots)
                if state.terms.like is not None:
                    state.terms.like.once()  # the server alone decides which sum is decrypted
                self._leaving()
                return encode(upload)
            case AwaitingDecryptRequest():
                self.result, decrypted = state.decrypt(decode(DecryptRequest, message))
                self.done = True
                return encode(decrypted)

    def _take_task(self, task: Task) -> bytes:
        terms = self._take(task)
        self._encoded = self._slots(task.task)
        self._state, key = advertise_key(terms, self._rng)
        return encode(key)

    def _slots(self, task: bytes) -> NDArray[np.float64]:
        parameters = self._parameters
        if parameters.ending == "keep":
            return parameters.plan.to_slots(parameters.centred(self._encode_inputs(task)))
        specs = self._encoding.vectors
        values = checked(self._encoding, self._vectors(task))
        weight, heaviest = weight_of(specs, values)
        for name, spec in specs.items():
            scale = weight / heaviest / spec.bound if isinstance(spec, Bounded) else 1.0
            values[name], self.clipping[name] = real_vector(spec, values[name], scale)
        return parameters.plan.to_slots(values)
