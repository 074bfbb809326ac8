"""A server and three clients over ZeroMQ with CURVE, in four processes of this machine."""

import tempfile
from pathlib import Path

import numpy as np

import transport
from secagg import Bounded, Masking
from transport.processes import LocalProcesses, lay_out_keys


def client(endpoint: str, own: Path) -> None:
    """On another machine this is all there is to a client."""
    with transport.join(
        endpoint, key=own / "client.key", server=own / "server.pub", roster=own / "roster"
    ) as peer:
        peer.contribute(lambda task: {"update": np.full(100_000, peer.id / 10)})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # Where machines differ, `secagg keys` makes each party's own key on its own machine.
        server, clients = lay_out_keys(Path(folder), 3)
        with (
            transport.serve(
                "tcp://127.0.0.1:*", key=server / "server.key", roster=server / "roster"
            ) as cohort,
            LocalProcesses() as processes,
        ):
            for u, own in enumerate(clients):
                processes.start(f"client {u}", client, cohort.endpoint, own)
            scheme = Masking.for_cohort(
                clients=3,
                vectors={"update": Bounded(length=100_000, bound=1.0)},
                roster=cohort.roster.identities,  # with a roster: against an active server
            )
            total = cohort.aggregate(
                scheme, task=b"", watch=lambda report: print(report.round, sorted(report.alive))
            )
    print("mean", total.mean["update"][:3].round(4), "of", sorted(total.survivors))


if __name__ == "__main__":
    main()
