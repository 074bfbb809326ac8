"""A server and three clients over ZeroMQ with CURVE, in four processes of this machine."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import transport
from secagg import Aggregate, Bounded
from transport.processes import LocalProcesses, lay_out_keys


def client(endpoint: str, own: Path) -> None:
    """On another machine this is all there is to a client."""
    # begin client
    with transport.join(
        endpoint, key=own / "client.key", server=own / "server.pub", roster=own / "roster"
    ) as peer:
        peer.contribute(lambda task: {"update": np.full(100_000, peer.id / 10)})
    # end client


def serve(own: Path, listening: Callable[[str], None]) -> Aggregate:
    """The server: told where it listens, somebody starts the clients."""
    # begin server
    vectors = {"update": Bounded(length=100_000, bound=1.0)}
    with transport.serve("tcp://127.0.0.1:*", key=own / "server.key", roster=own / "roster") as cohort:
        listening(cohort.endpoint)
        # Of vectors alone: masking with the roster, against a server that does what it likes.
        return cohort.aggregate(vectors, watch=lambda report: print(report.round, sorted(report.alive)))
    # end server


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # Where machines differ, `secagg keys` makes each party's own key on its own machine.
        server, clients = lay_out_keys(Path(folder), 3)
        with LocalProcesses() as processes:

            def starting(endpoint: str) -> None:
                for u, own in enumerate(clients):
                    processes.start(f"client {u}", client, endpoint, own)

            total = serve(server, starting)
    print("mean", total.mean["update"][:3].round(4), "of", sorted(total.survivors))


if __name__ == "__main__":
    main()
