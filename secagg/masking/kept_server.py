"""What the server of masking is between two calls: what a checkpoint seals.

As of a client, what follows from the session id and the sets is computed again.
"""

from __future__ import annotations

import msgspec

from secagg.alike import Name
from secagg.masking.messages import Commitments
from secagg.masking.uploads import KeptUploads
from secagg.states import Kept, KeptLike
from secagg.wire import Digest, Id, Key, Signature


class Shares(Kept, frozen=True):
    """What came back about one client: holder's point -> share. One of the two stays empty, by type. The
    server adds to both as answers come.
    """

    of_mask: dict[int, bytes] = msgspec.field(default_factory=dict)
    of_key: dict[int, bytes] = msgspec.field(default_factory=dict)


class KeptServer(Kept, frozen=True):
    """earlier, uploads, totals: of each group. uploads: in the round in which they come. totals: packed, in
    the order of the names, after it.
    """

    context: Digest
    like: KeptLike | None
    keys: dict[Id, tuple[Key, Key, Signature]]
    sid: bytes
    sealed: dict[Id, dict[Id, bytes]]
    commitment: dict[Id, bytes]
    commitments: dict[Id, dict[Id, Commitments]]
    U2: list[Id]
    U3: list[Id]
    signatures: dict[Id, Signature]
    earlier: list[list[list[Name]]]
    uploads: list[KeptUploads]
    totals: list[list[bytes]]
    shares: dict[Id, Shares]


servers = msgspec.msgpack.Decoder(KeptServer)
