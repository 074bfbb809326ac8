"""The session that a server is in, as bytes: what another process of it goes on from, once this one is gone.

It is kept from the request for vectors on. Before, nothing has left that a new session would not hide as
well, and clients give a session up whose server is gone; after, each whose vectors have left waits for a
server that knows it. It is asked again what it was asked, by the number of the message, and says again what
it said.

Requests are kept before the first of them leaves, and so no round is opened twice with others; and the
answers to the last one before anybody hears that there is a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from secagg import LocalProtocolError, Scheme, checkpoint
from secagg.alike import Alike
from secagg.crypto import AE_OVERHEAD, OwnTag, SigningKey, seal, unseal
from secagg.errors import ClientId
from secagg.identity import Roster
from secagg.parallel import Executor
from transport.exchange import Exchange
from transport.router import Router

VERSION: Final = 1


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="kept-session"):
    """An `Exchange` between two messages. answered: the last round, which is to be closed. session: a
    checkpoint of it.
    """

    version: int
    id: bytes
    cohort: list[int]
    joined: list[int]
    lost: dict[int, str]
    number: dict[int, int]
    sent: dict[int, int]
    requests: dict[int, bytes]
    up: dict[int, int]
    answered: bool
    session: bytes


_decoder = msgspec.msgpack.Decoder(_Kept)


def kept(running: Exchange, key: SigningKey, *, answered: bool = False) -> bytes:
    """The session as it is now, sealed for this server. answered: its last round is about to be closed.

    Raises: LocalProtocolError where it cannot be kept.
    """
    if not running.scheme.finishing_rounds:
        raise LocalProtocolError(
            "keep: a session outlives its server where clients wait to finish it, in masking alone: leave it "
            "out"
        )
    state = _Kept(
        VERSION,
        running.id,
        sorted(running.cohort),
        sorted(running.joined),
        running.lost,
        running.number,
        running.sent,
        dict(running.requests),
        running.up,
        answered,
        checkpoint.save(running.session, key.derive(OwnTag.KEPT_CHECKPOINT)),
    )
    return seal(key.derive(OwnTag.KEPT_SESSION), msgspec.msgpack.encode(state), b"")


def taken_up(
    content: bytes,
    key: SigningKey,
    scheme: Scheme,
    router: Router,
    lives: Callable[[], Collection[ClientId]] | None,
    *,
    roster: Roster | None,
    executor: Executor | None,
    alike: Alike | None,
) -> Exchange:
    """The session again, whose clients are asked again as they come. content: what `kept` gave, the newest.

    Raises: LocalProtocolError for another server's, another version's, or one of other parameters.
    """
    sealed = len(content) > AE_OVERHEAD
    inside = unseal(key.derive(OwnTag.KEPT_SESSION), content, b"") if sealed else None
    state = None
    if inside is not None:
        try:
            state = _decoder.decode(inside)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            state = None
    if state is None or state.version != VERSION:
        raise LocalProtocolError(
            "this is no session that this server can go on with: it is another server's, another version's, "
            "or was damaged; begin a new one"
        )
    secret = key.derive(OwnTag.KEPT_CHECKPOINT)
    session = checkpoint.restore(scheme, state.session, secret, roster=roster, executor=executor, alike=alike)
    return Exchange(
        *(router, scheme, session, frozenset(state.cohort), lives),
        id=state.id,
        joined=set(state.joined),
        lost=state.lost,
        lost_before=len(state.lost),
        number=state.number,
        sent=state.sent,
        requests=state.requests,
        up=state.up,
        wire=router.traffic,
        again=session.round,
        answered=state.answered,
    )
