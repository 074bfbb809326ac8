"""One client's side of a masking session: which state hears what, and what it is while it is suspended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg.masking.client import (
    AwaitingConsistencyCheck,
    AwaitingMaskedInput,
    AwaitingShareKeys,
    AwaitingSignatures,
    AwaitingUnmasking,
    advertise_keys,
)
from secagg.masking.kept import Restored, keep
from secagg.masking.messages import (
    ConsistencyCheckRequest,
    MaskedInputRequest,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.states import AwaitingTask, StatefulClient
from secagg.wire import Raw, Task, decode, encode

if TYPE_CHECKING:
    from secagg.masking import Masking

_State = (
    AwaitingTask
    | AwaitingShareKeys
    | AwaitingMaskedInput
    | AwaitingConsistencyCheck
    | AwaitingSignatures
    | AwaitingUnmasking
)


class MaskingClient(StatefulClient):
    """One client's side of a masking session (`session.ClientSession`)."""

    _parameters: Masking
    suspendable = True

    def _step(self, state: _State, message: Raw) -> bytes:
        match state:
            case AwaitingTask():
                return self._take_task(decode(Task, message))
            case AwaitingShareKeys():
                self._state, shares = state.share_keys(decode(ShareKeysRequest, message))
                return encode(shares)
            case AwaitingMaskedInput():
                # Taken, so that whatever is raised below they are masked once, if at all.
                x_u, bits = self._take_encoded(), self._parameters.ring_bits()
                self._state, masked = state.mask_input(decode(MaskedInputRequest, message), x_u, bits)
                if self._alike is not None:
                    self._alike.keep_to(self._parameters.sums.groups(state.session.cut), leaving=True)
                self._leaving()  # after all checks, and before a byte of it is out
                return encode(masked)
            case AwaitingConsistencyCheck():
                self._state, checked = state.check(decode(ConsistencyCheckRequest, message))
                return encode(checked)
            case AwaitingUnmasking():
                return self._finish(state.unmask(decode(UnmaskingRequest, message)))
            case AwaitingSignatures():
                return self._finish(state.unmask(decode(SignedUnmaskingRequest, message)))

    def _take_task(self, task: Task) -> bytes:
        terms = self._take(task)
        if self._alike is not None:  # before anything is computed in vain
            self._alike.keep_to(self._parameters.sums.announced, leaving=False)
        self._encoded = self._encode_inputs(task.task)
        self._state, keys = advertise_keys(terms, self._rng)
        return encode(keys)

    def _kept(self, state: _State) -> bytes:
        return keep(state, self._encoded, self._parameters.ring_bits())

    def _restored(self, kept: bytes) -> _State:
        restored = Restored(self._parameters, self._u, self._identity, self._alike, self._rng)
        state: _State
        state, terms, self._encoded = restored.state(kept)
        self._context, self._nonce = terms.context, terms.nonce
        return state

    def _finish(self, reply: Unmasking) -> bytes:
        self.done = True
        return encode(reply)
