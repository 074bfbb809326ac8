"""The masking scheme: secure aggregation by Bonawitz et al. (CCS 2017), honest-but-curious server."""

from __future__ import annotations

from collections.abc import Collection

from secagg.crypto import Rng, Tag, digest, system_rng
from secagg.encoding import Spec, Vectors
from secagg.errors import ClientId
from secagg.masking.client import MaskingClient
from secagg.masking.server import ROUNDS, MaskingServer
from secagg.params import Parameters, named
from secagg.session import Contribute


def default_threshold(clients: int) -> int:
    """floor(n / 2) + 1 (Bonawitz et al., section 6.2): a server cannot split the cohort into two quorums."""
    return clients // 2 + 1


class Masking(Parameters, frozen=True, kw_only=True, tag="masking"):
    """Parameters of a masking session on the complete graph.

    threshold: t, clients needed in every round and shares needed to rebuild a secret; at least
    floor(n / 2) + 1 and at most n.

    Security: against a server that follows the protocol and any coalition of fewer than t clients with it;
    the sum is right only if all clients are honest.
    """

    threshold: int

    def __post_init__(self) -> None:
        super().__post_init__()
        least = default_threshold(self.clients)
        self._check(
            least <= self.threshold <= self.clients,
            f"threshold {self.threshold} is impossible: with {self.clients} clients it is in "
            f"{least}..{self.clients} (below, two disjoint groups could each unmask)",
        )

    @classmethod
    def for_cohort(
        cls,
        clients: int,
        vectors: Vectors | Spec,
        *,
        threshold: int | None = None,
        small_cohort: bool = False,
    ) -> Masking:
        """The scheme for n clients; the ring, and the threshold unless it is given, follow from n.

        Raises: LocalProtocolError where no such session is possible, with the number that fails.
        """
        t = threshold if threshold is not None else default_threshold(clients)
        return cls(clients=clients, vectors=named(vectors), threshold=t, small_cohort=small_cohort)

    @property
    def rounds(self) -> tuple[str, ...]:
        return ROUNDS

    def client(
        self, u: ClientId, vectors: Contribute, *, rounding_seed: bytes | None = None, rng: Rng = system_rng
    ) -> MaskingClient:
        return MaskingClient(self, self.threshold, u, vectors, rounding_seed=rounding_seed, rng=rng)

    def server(
        self, cohort: Collection[ClientId], task: bytes = b"", *, rng: Rng = system_rng
    ) -> MaskingServer:
        context = digest(Tag.CONTEXT, task)
        return MaskingServer(self, self.threshold, cohort, task, context, rng=rng)

    def explain(self) -> str:
        """In words: what is sent, and what the choice guarantees and what not."""
        n, t = self.clients, self.threshold
        return "\n".join(
            [
                f"masking, {n} clients, threshold {t}, complete graph, honest-but-curious server",
                *self.describe_vectors(),
                f"up to {n - t} clients may vanish, in any round; with fewer than {t} left there is no sum",
                f"the server, with fewer than {t} clients on its side, learns the survivors' sum and no more",
                "not promised: anything against a server that breaks the protocol, or a right sum where a "
                "client lies (masking gives no integrity)",
            ]
        )
