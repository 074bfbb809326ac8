"""What the servers of sessions with a shared secret key have in common: the rounds in which the clients come
to share it, and what is to be had of a sum that they keep.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NoReturn

from secagg.aggregate import Aggregate
from secagg.ckks.derived import key_statement, makers_of, secret_statement, session_id
from secagg.ckks.messages import (
    DECRYPT,
    SHARE_KEYS,
    AdvertiseCkksKey,
    CiphertextsRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.crypto import AE_OVERHEAD, KEY_BYTES, Rng, check_public_key, system_rng
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, TooFewClients
from secagg.identity import Roster, check_signed
from secagg.rounds import RoundServer
from secagg.wire import Raw, decode, encode


class KeySharingServer(RoundServer):
    """A server whose clients share a key that it passes on sealed. What is uploaded under that, and what is
    said of the sum, is the scheme's.
    """

    _parameters: Any

    def __init__(
        self,
        parameters: Any,
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

    def _take(self, u: ClientId, message: Raw) -> None:
        match self.round:
            case "advertise-keys":
                self._advertised(u, decode(AdvertiseCkksKey, message))
            case "share-keys":
                self._shared(u, decode(ShareCkksKey, message))
            case "input":
                self._uploaded(u, message)
            case _:
                self._decrypted(u, message)

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

    @abstractmethod
    def _uploaded(self, u: ClientId, raw: Raw) -> None:
        """u's vectors. Raises: RemoteProtocolError, before any of it is in the sum."""

    @abstractmethod
    def _open_decrypt(self, U3: frozenset[ClientId]) -> dict[ClientId, bytes]:
        """The sum, to those who are to decrypt it."""

    @abstractmethod
    def _decrypted(self, u: ClientId, raw: Raw) -> None:
        """What u says of the sum. Raises: RemoteProtocolError."""

    @abstractmethod
    def _finish(self, alive: frozenset[ClientId]) -> Aggregate:
        """alive: who answered the last request. Raises: TooFewClients."""

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
        request = CiphertextsRequest(maker, chosen.secret, chosen.sealed, chosen.signature)
        return dict.fromkeys(sorted(U2), encode(request))


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
