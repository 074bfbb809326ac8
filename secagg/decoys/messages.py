"""What the parties of a session of decoys say besides what those of CKKS say: the rounds in which a key is
shared, and the decryption, are the same.
"""

from __future__ import annotations

from secagg.wire import Digest, Message, Signature, decodes


class Candidates(Message, frozen=True, tag="candidates"):
    """u -> server: its candidates in the clear, packed; of each in turn its selector, encrypted: residues of
    coefficients; and u's digest of both.
    """

    vectors: memoryview
    selectors: memoryview
    digest: Digest
    signature: Signature


decodes(Candidates)
