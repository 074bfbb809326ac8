"""A client of a session of decoys: its true vectors among others, and under encryption which they are.

The key comes about as in CKKS (`ckks.sharing`). Every client can read every selector: they do not see them,
the server does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from secagg.aggregate import Aggregate
from secagg.bits import Words
from secagg.ckks.messages import CiphertextsRequest, Decrypted, DecryptRequest, ShareCkksKeyRequest
from secagg.ckks.packing import pack_residues, unpack_residues
from secagg.ckks.sharing import (
    AwaitingCiphertextsRequest,
    AwaitingKeys,
    SessionKey,
    advertise_key,
    check_survivors,
)
from secagg.crypto import KEY_BYTES, NeverPickled
from secagg.decoys.derived import candidates_digest, candidates_statement
from secagg.decoys.messages import Candidates
from secagg.errors import ClientId, LocalProtocolError
from secagg.inputs import encode_inputs, named_values
from secagg.specs import Vector
from secagg.states import AwaitingTask, StatefulClient, Terms
from secagg.wire import Raw, Task, decode, encode

if TYPE_CHECKING:
    from secagg.decoys import Decoys


class Among(Mapping[str, Any]):
    """A client's true vectors, and beside them the decoys that travel with them. As a mapping it is the true
    ones, so that where no decoys are sent, in a session of another scheme, it is just these.

    decoys: vectors of the same names and lengths, K - 1 of them where K candidates are sent. Their order
    does not matter: the client shuffles them.

    Security: a decoy hides the true vectors as far as nobody can tell them apart, and no farther; it must
    not be used again in a later round, in which the server would know it by sight.
    """

    def __init__(
        self, true: Mapping[str, Vector] | Vector, decoys: Sequence[Mapping[str, Vector] | Vector]
    ) -> None:
        self._true = MappingProxyType(named_values(true))
        self.decoys = tuple(named_values(decoy) for decoy in decoys)

    def __getitem__(self, name: str) -> Any:
        return self._true[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._true)

    def __len__(self) -> int:
        return len(self._true)

    def __repr__(self) -> str:
        return f"Among(<hidden>, {len(self.decoys)} decoys)"


@dataclass(frozen=True, slots=True)
class Shuffled(NeverPickled):
    """Codes of all candidates, in the order in which they are sent, and which of them is true."""

    codes: list[Mapping[str, Words]] = field(repr=False)
    true: int = field(repr=False)


def offer(
    state: AwaitingCiphertextsRequest, request: CiphertextsRequest, shuffled: Shuffled
) -> tuple[AwaitingDecryptRequest, Candidates]:
    """Raises: RemoteProtocolError unless a maker sealed its key for u, in this session."""
    key, terms, sid = state.open(request), state.terms, state.sid
    plan, u = terms.parameters.plan, terms.u
    vectors = plan.pack(shuffled.codes)
    # A ciphertext of zero is as any other: fresh, of the same size, made in the same time.
    chosen = [key.keys.encrypt(int(j == shuffled.true)) for j in range(len(shuffled.codes))]
    selectors = pack_residues(plan.ring, np.stack(chosen))
    made = candidates_digest(sid, u, vectors, selectors)
    signature = terms.sign(candidates_statement(sid, u, made))
    answer = Candidates(memoryview(vectors), memoryview(selectors), made, signature)
    return AwaitingDecryptRequest(terms, sid, state.U1, key), answer


@dataclass(frozen=True, slots=True)
class AwaitingDecryptRequest(NeverPickled):
    """After Candidates. Used once: a second sum under the same key is refused."""

    terms: Terms[Decoys]
    sid: bytes
    U1: frozenset[ClientId]
    key: SessionKey = field(repr=False)

    def decrypt(self, request: DecryptRequest) -> tuple[Aggregate, Decrypted]:
        """The sum, which u keeps. Raises: RemoteProtocolError unless it is one that u may see."""
        parameters, plan = self.terms.parameters, self.terms.parameters.plan
        survivors = check_survivors(self.terms, self.U1, request)
        residues = unpack_residues(plan.ring, plan.polynomials, request.residues)
        sums = plan.sums(np.stack([self.key.keys.decrypt(each) for each in residues]))
        return Aggregate.of_codes(parameters.vectors, survivors, sums), Decrypted(memoryview(b""))


_State = AwaitingTask | AwaitingKeys | AwaitingCiphertextsRequest | AwaitingDecryptRequest


class DecoysClient(StatefulClient):
    """One client's side of a session of decoys (`session.ClientSession`)."""

    _parameters: Decoys

    def _step(self, state: _State, message: Raw) -> bytes:
        match state:
            case AwaitingTask():
                return self._take_task(decode(Task, message))
            case AwaitingKeys():
                self._state, answer = state.make_key(decode(ShareCkksKeyRequest, message))
                return encode(answer)
            case AwaitingCiphertextsRequest():
                shuffled = self._take_encoded()
                self._state, upload = offer(state, decode(CiphertextsRequest, message), shuffled)
                if state.terms.like is not None:
                    state.terms.like.once()  # the server alone decides which sum is decrypted
                # Under one context once, and never again: among other decoys the true one would be what
                # both sets have in common.
                self._leaving()
                return encode(upload)
            case AwaitingDecryptRequest():
                self.result, decrypted = state.decrypt(decode(DecryptRequest, message))
                self.done = True
                return encode(decrypted)

    def _take_task(self, task: Task) -> bytes:
        terms = self._take(task)
        self._encoded = self._shuffle(self._vectors(task.task))
        self._state, key = advertise_key(terms, self._rng)
        return encode(key)

    def _shuffle(self, inputs: Any) -> Shuffled:
        candidates = self._parameters.candidates
        given = len(inputs.decoys) if isinstance(inputs, Among) else 0
        if given != candidates - 1:
            raise LocalProtocolError(
                f"{given} decoys beside the client's vectors, and {candidates - 1} are needed: give them as "
                "secagg.Among(vectors, decoys)"
            )
        true, self.clipping = self._encode(inputs, self._rounding_seed)
        # Rounded under seeds of their own, which nothing else has.
        decoys = [self._encode(decoy, self._rng(KEY_BYTES))[0] for decoy in inputs.decoys]
        # Sorting by secret random keys gives every order alike; two keys are equal with probability 2^-128.
        order = sorted(range(candidates), key=lambda _: self._rng(16))
        return Shuffled([[true, *decoys][i] for i in order], order.index(0))

    def _encode(self, inputs: Mapping[str, Vector], seed: bytes) -> tuple[dict[str, Words], dict[str, Any]]:
        return encode_inputs(self._encoding, inputs, self._context, seed, rng=self._rng)
