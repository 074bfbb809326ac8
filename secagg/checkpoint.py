"""A server's session between two calls as bytes, a *checkpoint*: for a server that is stopped in the middle
of a session, or whose process does not live as long as one.

Unlike a client's ticket it has no record beside it. That no client answers two requests of one round is the
client's own doing, whatever its server is set back to: with an older checkpoint, or two copies of one, a
server can do what an active one does at its own will, and no more. One that is trusted to follow the protocol
follows it with checkpoints, too, if it saves what `advance` returns together with the session before any of
it leaves, and goes on from the newest checkpoint alone.

All that a server draws, it draws before the first message. So a session that is set back asks the same again
where it has heard the same, and who is asked the same again answers the same: an older checkpoint of the open
round costs no more than that all is said once more. One that is set back behind a round, and closes it with
others, is refused by those that had answered: too few are left, and there is no sum.

A checkpoint holds the masked sum, and in the end the shares that open it: who reads it has the sum, and who
alters it chooses it. So it is sealed, under a key of the server's operator.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from secagg.alike import Alike
from secagg.crypto import (
    AE_OVERHEAD,
    KEY_BYTES,
    OwnTag,
    Rng,
    kdf,
    seal,
    system_rng,
    transcript,
    unseal,
)
from secagg.errors import LocalProtocolError
from secagg.identity import Roster
from secagg.parallel import Executor
from secagg.rounds import DONE, KeptRounds, RoundServer
from secagg.session import Scheme, ServerSession
from secagg.states import MAX_SEALED
from secagg.wire import Key

CHECKPOINT_VERSION: Final = 2


class _Of(msgspec.Struct, frozen=True, array_like=True, tag="secagg-checkpoint"):
    """What a checkpoint of any version begins with."""

    version: int


class _Checkpoint(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="secagg-checkpoint"
):
    """salt: of this one's own key."""

    version: int
    salt: Key
    sealed: Annotated[bytes, msgspec.Meta(min_length=AE_OVERHEAD)]


_versions, _checkpoints = msgspec.msgpack.Decoder(_Of), msgspec.msgpack.Decoder(_Checkpoint)
_kept = msgspec.msgpack.Decoder(KeptRounds)

T = TypeVar("T")


def save(server: ServerSession, key: bytes, *, rng: Rng = system_rng) -> bytes:
    """The session as it is now; it goes on as if nothing had happened. key: 32 secret bytes of the server's
    operator, for as many checkpoints as one likes. rng: of salts and nonces.

    The requests of the open round are no part of it: they are the caller's to keep beside it, until they are
    answered.

    Raises: LocalProtocolError where the session is over, or cannot be kept.
    """
    if not isinstance(server, RoundServer) or not server.suspendable:
        raise LocalProtocolError(
            "this server's session cannot be kept: of masking, split and plain one can, without an "
            "instrument around it; keep the process that began it"
        )
    if server.round == DONE:
        raise LocalProtocolError("this session is over: there is nothing to go on with; keep its result")
    inside = server.suspend()
    if len(inside) > MAX_SEALED:
        raise LocalProtocolError(
            f"a server's session that takes {len(inside)} bytes cannot be kept: it is {MAX_SEALED} at most; "
            "sum shorter vectors, or keep the process that began it"
        )
    salt = rng(KEY_BYTES)
    sealed = seal(_key(key, salt), inside, _data(server.scheme), rng)
    return msgspec.msgpack.encode(_Checkpoint(CHECKPOINT_VERSION, salt, sealed))


def restore(
    scheme: Scheme,
    checkpoint: bytes,
    key: bytes,
    *,
    roster: Roster | None = None,
    executor: Executor | None = None,
    alike: Alike | None = None,
) -> ServerSession:
    """The session again, in the round in which it was saved. checkpoint, key: what `save` returned, and its
    key. roster, executor, alike: as `Scheme.server` has them, given again; which parts of a sum are kept
    apart, the checkpoint says.

    Raises: LocalProtocolError for no checkpoint of a session of this scheme under this key.

    Security: go on from the newest checkpoint of a session, in one process. Semi-honest and on a sparse
    graph, one that is set back to before its survivors were shown, and shows others, may be told both
    secrets of a client, one of them each time.
    """
    if (version := _read(_versions, checkpoint).version) != CHECKPOINT_VERSION:
        raise LocalProtocolError(
            f"a checkpoint of version {version}, this is version {CHECKPOINT_VERSION}: what one version has "
            "begun no other finishes; begin a new session"
        )
    shown = _read(_checkpoints, checkpoint)
    inside = unseal(_key(key, shown.salt), shown.sealed, _data(scheme))
    if inside is None:
        raise LocalProtocolError(
            "this checkpoint does not open: it was altered, or is of another key or of other parameters"
        )
    kept = _kept.decode(inside)
    server = scheme.server(kept.cohort, kept.task, roster=roster, executor=executor)
    assert isinstance(server, RoundServer), "it was one when it was saved"  # noqa: S101
    server.resume(kept, alike)
    return server


def _read(decoder: msgspec.msgpack.Decoder[T], checkpoint: bytes) -> T:
    try:
        return decoder.decode(checkpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise LocalProtocolError("this is no checkpoint of a server's session") from None


def _key(key: bytes, salt: bytes) -> bytes:
    if len(key) < KEY_BYTES:
        raise LocalProtocolError(f"a checkpoint's key has at least {KEY_BYTES} secret bytes")
    return kdf(OwnTag.CHECKPOINT, key, salt)


def _data(scheme: Scheme) -> bytes:
    return transcript(OwnTag.CHECKPOINT_DATA, CHECKPOINT_VERSION, scheme.digest())
