"""Clients without a process that lives: any worker answers any message, and between two a client is bytes.

The workers are two processes here, of a pool that gives each message to whichever is free; let them be
functions in a cloud, or the tasks of a queue.
"""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from secagg import Masking, Policy, Tree, accept, tickets
from transport.journal import Tickets

# begin tree
MODEL = {"layer": {"weight": np.zeros((3, 2)), "bias": np.zeros(2)}, "batches seen": 0}
TREE = Tree(MODEL, bound=1.0, max_weight=100)  # for all parties: how such a model enters a sum
# end tree


def trained(task: bytes, u: int) -> dict[str, np.ndarray]:
    """Of client u, what it contributes: here all its numbers are u / 10, of 10 (u + 1) examples."""
    weights = {"weight": np.full((3, 2), u / 10), "bias": np.full(2, u / 10)}
    # begin tree
    return TREE.flatten({"layer": weights, "batches seen": u}, weight=10 * (u + 1))
    # end tree


def answer(u: int, own: Path, offer: bytes, message: bytes | None) -> bytes:
    """A worker answers for client u. Of what was before it has the client's folder, and nothing else."""
    # begin tickets
    scheme, record = accept(Policy(adversary="semi-honest"), offer), Tickets(own / "client.tickets")
    if message is None:
        ticket, reply = tickets.begin(scheme, u, record=record)
    else:
        before = (own / "ticket").read_bytes()
        ticket, reply = tickets.step(
            scheme, before, message, u=u, vectors=lambda task: trained(task, u), record=record
        )
    (own / "ticket").write_bytes(ticket)  # who dies before this answers again, with the same bytes
    # end tickets
    return reply


def main() -> None:
    scheme = Masking.for_cohort(clients=3, vectors=TREE.vectors)
    server = scheme.server(cohort=range(3), task=b"train on round 1")
    messages: dict[int, bytes | None] = dict.fromkeys(range(3))
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2, get_context("spawn")) as workers:
        for u in messages:
            (Path(folder) / str(u)).mkdir()
        while server.result is None:
            answers = {
                u: workers.submit(answer, u, Path(folder) / str(u), scheme.offer(), message)
                for u, message in messages.items()
            }
            for u, future in answers.items():
                server.receive(u, future.result())
            messages = dict(server.advance())
        for u in range(3):  # all that was said has arrived: no ticket of it is to open any more
            own = Path(folder) / str(u)
            tickets.end((own / "ticket").read_bytes(), record=Tickets(own / "client.tickets"))
    # begin tree
    mean = TREE.unflatten(server.result)
    # end tree
    print("bias", mean["layer"]["bias"].round(3), "batches seen", mean["batches seen"])


if __name__ == "__main__":
    main()
