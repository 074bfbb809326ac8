"""The masks of a session, as a client puts them on and as the server takes them off a sum. Who adds a pair's
mask and who subtracts it stands in this file alone.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from secagg.bits import Words
from secagg.crypto import NeverPickled, SecretKey
from secagg.errors import ClientId
from secagg.masking.derived import AdvertisedKeys, pair_mask_key, self_mask_key
from secagg.parallel import Executor, add_masks_by, in_order
from secagg.prg import Prg, add_masks


def put_on(
    y: Words, sid: bytes, u: ClientId, name: str, b_u: bytes, agreed: Mapping[ClientId, bytes], prg: Prg
) -> None:
    """ "y_u <- x_u + PRG(b_u) + sum over v in U2 of Delta_uv PRG(s_uv)  (mod R)", in place.

    y: u's vector of this name, (m,) words in [0, 2^b). agreed: v -> s_uv, of each of u's neighbours in U2.
    """
    seeds = {v: pair_mask_key(s_uv, sid, u, v, name) for v, s_uv in agreed.items()}
    plus = [self_mask_key(b_u, sid, u, name)] + [seeds[v] for v in seeds if u > v]
    add_masks(y, plus, [seeds[v] for v in seeds if u < v], prg)


@dataclass(frozen=True, slots=True)
class Leftover(NeverPickled):
    """The masks that are left in a sum over U3: each member's own, and those that it shares with neighbours
    that dropped out.

    own: u in U3 -> b_u. pairs: v in U2 minus U3 -> its neighbours in U3, ascending. agreed: s_uv of each of
    these, in that order.
    """

    sid: bytes
    own: Mapping[ClientId, bytes] = field(repr=False)
    pairs: Mapping[ClientId, list[ClientId]]
    agreed: list[list[bytes]] = field(repr=False)
    prg: Prg
    executor: Executor | None

    @classmethod
    def of(
        cls,
        sid: bytes,
        masks: Callable[[ClientId], frozenset[ClientId]],
        keys: AdvertisedKeys,
        own: Mapping[ClientId, bytes],
        dropped: Mapping[ClientId, SecretKey],
        prg: Prg,
        executor: Executor | None,
    ) -> Leftover:
        """masks: whose cancel with a client's. own, dropped: of one sum's survivors, and of who was lost."""
        pairs = {v: sorted(masks(v) & own.keys()) for v in dropped}
        calls = ((s_sk.expose(), [keys[u][1] for u in pairs[v]]) for v, s_sk in dropped.items())
        return cls(sid, own, pairs, list(in_order(executor, _agree, calls)), prg, executor)

    def take_off(self, total: Words, name: str) -> None:
        """ "z = sum x_u = sum y_u - sum over U3 of PRG(b_u) + sum over u in U3, v in U2 minus U3 of
        Delta_vu PRG(s_vu)", in place, of the vector of this name.
        """
        own = (self_mask_key(b_u, self.sid, u, name) for u, b_u in self.own.items())
        added, subtracted = self._of_pairs(name)
        add = add_masks if self.executor is None else partial(add_masks_by, self.executor)
        add(total, subtracted, chain(own, added), self.prg)

    def _of_pairs(self, name: str) -> tuple[list[bytes], list[bytes]]:
        """Seeds of what the survivors added for dropped clients, and of what they subtracted."""
        calls = (
            (self.sid, name, v, others, s_v)
            for (v, others), s_v in zip(self.pairs.items(), self.agreed, strict=True)
        )
        added: list[bytes] = []
        subtracted: list[bytes] = []
        seeds_of = in_order(self.executor, _pair_mask_keys, calls)
        for (v, others), seeds in zip(self.pairs.items(), seeds_of, strict=True):
            below = bisect(others, v)  # u added the pair's mask where u > v: `put_on`
            subtracted += seeds[:below]
            added += seeds[below:]
        return added, subtracted


# Tasks of an executor, which may be another process: bytes in, bytes out.


def _agree(s_v: bytes, publics: Collection[bytes]) -> list[bytes]:
    """s_uv of a dropped client v and each of those u whose key it is."""
    s_sk = SecretKey(s_v)
    return [s_sk.agree(public) for public in publics]


def _pair_mask_keys(
    sid: bytes, name: str, v: ClientId, others: Collection[ClientId], agreed: Collection[bytes]
) -> list[bytes]:
    return [pair_mask_key(s_uv, sid, u, v, name) for u, s_uv in zip(others, agreed, strict=True)]
