"""What both ends of a session of decoys derive beside what those of CKKS do (`secagg.ckks.derived`)."""

from __future__ import annotations

from secagg.crypto import Tag, digest, transcript
from secagg.errors import ClientId
from secagg.wire import Raw


def candidates_digest(sid: bytes, u: ClientId, vectors: Raw, selectors: Raw) -> bytes:
    return digest(Tag.DECOYS_UPLOAD, sid, u, bytes(vectors), bytes(selectors))


def candidates_statement(sid: bytes, u: ClientId, upload: bytes) -> bytes:
    """What u signs when it uploads. upload: digest of its candidates and selectors."""
    return transcript(Tag.SIGN_DECOYS_UPLOAD, sid, u, upload)
