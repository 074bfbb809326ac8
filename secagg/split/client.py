"""A client of split aggregation: it cuts its vectors into shares, one a relay, and is done."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from secagg.bits import Words, pack
from secagg.crypto import SecretKey, seal
from secagg.errors import RemoteProtocolError
from secagg.identity import Roster, check_signed
from secagg.prg import add_masks
from secagg.split.derived import (
    dummy_key,
    relay_key_statement,
    seal_data,
    seal_key,
    session_id,
    share_digest,
    shares_statement,
)
from secagg.split.messages import SEED_BYTES, RelayKeys, SeedShare, Shares, SplitTask, VectorShare, holder_of
from secagg.states import StatefulClient, Terms
from secagg.wire import Raw, decode, encode, relay_party


class SplitClient(StatefulClient):
    """One session of a client."""

    suspendable = True

    def _step(self, state: Any, message: Raw) -> bytes:
        task = decode(SplitTask, message)
        terms = self._take(task)
        # Before anything is computed for relays that are not this roster's.
        check_relay_keys(terms.of_keys(), terms.roster, terms.parameters.relays, task.keys)
        sid = session_id(self._nonce, terms.parameters.digest(), self._context, task.keys)
        x_u = self._encode_inputs(task.task)
        # Drawn with the noise: a tag stays on record where the step is refused, and in another session relays
        # are told it. What is drawn again at the second time must be none of its bytes.
        tags = list(terms.like.tags(self._noise_rng)) if terms.like is not None else []
        shares = encode(self._seal(terms, sid, task.keys, self._cut(sid, x_u, tags)))
        self._leaving()
        self.done = True
        return shares

    def _cut(self, sid: bytes, x_u: Mapping[str, Words], tags: list[bytes]) -> list[bytes]:
        """x_u in M shares of which any M - 1 are uniform: dummies, and x_u less all of them, in place."""
        u, M = self._u, self._parameters.relays
        holder, bits = holder_of(u, M), self._parameters.ring_bits()
        seeds = {j: self._rng(SEED_BYTES) for j in range(M) if j != holder}
        for name, x in x_u.items():
            dummies = [dummy_key(seed, sid, u, j, name) for j, seed in seeds.items()]
            add_masks(x, (), dummies, self._parameters.prg)
        packed = [memoryview(pack(x_u[name], bits[name])) for name in sorted(x_u)]
        shares = {j: encode(SeedShare(tags, seed)) for j, seed in seeds.items()}
        shares[holder] = encode(VectorShare(tags, packed))
        return [shares[j] for j in range(M)]

    def _seal(self, terms: Terms[Any], sid: bytes, keys: RelayKeys, shares: list[bytes]) -> Shares:
        # One key for one message: it is nowhere once this returns.
        u, c_sk = self._u, SecretKey.generate(self._rng)
        sealed = [
            seal(
                seal_key(c_sk.agree(keys[j][0]), sid, u, j, c_sk.public),
                share,
                seal_data(sid, u, j),
                self._rng,
            )
            for j, share in enumerate(shares)
        ]
        digests = [share_digest(one) for one in sealed]
        statement = shares_statement(sid, terms.parameters.digest(), terms.context, u, c_sk.public, digests)
        return Shares(c_sk.public, [memoryview(one) for one in sealed], terms.sign(statement))


def check_relay_keys(
    of_keys: tuple[bytes, bytes, bytes, bytes], roster: Roster | None, relays: int, keys: RelayKeys
) -> None:
    """Raises: RemoteProtocolError unless these are the keys of all M relays, each another, and each signed by
    its relay under the client's or relay's own roster, where it holds one.
    """
    if keys.keys() != set(range(relays)):
        raise RemoteProtocolError(f"keys of other relays than the {relays} of this session")
    if len({pk for pk, _ in keys.values()}) != relays:
        raise RemoteProtocolError("one key for two relays")
    for j, (pk, signature) in keys.items():
        check_signed(
            roster,
            relay_party(j),
            partial(relay_key_statement, *of_keys, j, pk),
            signature,
            "a relay's key that is",
            f"the key the server shows for relay {j} is not signed by that relay of this roster for these "
            "parameters and this task",
        )
