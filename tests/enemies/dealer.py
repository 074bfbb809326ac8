"""A client that deals useless shares: each well sealed, committed to and signed, together not its secret."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Literal

from secagg import ClientSession
from secagg.crypto import KEY_BYTES, SecretKey, seal
from secagg.masking.client import AwaitingMaskedInput, AwaitingShareKeys
from secagg.masking.derived import share_data, share_key
from secagg.masking.messages import ShareKeysRequest
from secagg.masking.shares import deal
from secagg.record import AroundClient
from secagg.wire import Raw, decode, encode

Half = Literal["key", "mask"]


class Dealer(AroundClient):
    """half: of which secret it deals another: of s_u^SK, which is rebuilt where it vanishes, as it then does
    by `vanish`; or of b_u, which is where it stays.
    """

    def __init__(self, session: ClientSession, half: Half, vanish: Any = lambda: None) -> None:
        super().__init__(session)
        self._half, self._vanish = half, vanish

    def receive(self, message: Raw) -> bytes | None:
        state = self._session._state  # type: ignore[attr-defined]
        if isinstance(state, AwaitingMaskedInput) and self._half == "key":
            self._vanish()
            return None
        reply = super().receive(message)
        if not isinstance(state, AwaitingShareKeys):
            return reply
        return self._dealt(state, decode(ShareKeysRequest, message))

    def _dealt(self, state: AwaitingShareKeys, request: ShareKeysRequest) -> bytes:
        own = self._session._state  # type: ignore[attr-defined]
        sid, u, holders = own.session.sid, own.session.u, sorted(own.session.holders)
        s_sk = SecretKey.generate(os.urandom) if self._half == "key" else own.s_sk
        b_u = os.urandom(KEY_BYTES) if self._half == "mask" else own.b_u
        both = deal(s_sk, b_u, state.terms.parameters.threshold, holders, os.urandom)
        self._session._state = replace(own, own_shares=both[u])  # type: ignore[attr-defined]
        sealed = {
            v: seal(
                share_key(state.c_sk.agree(request.keys[v][0]), sid, u, v),
                both[v],
                share_data(sid, u, v),
                os.urandom,
            )
            for v in holders
            if v != u
        }
        return encode(state._signed(sid, sealed, own.b_u, both))
