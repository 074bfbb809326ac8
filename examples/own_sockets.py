"""The protocol inside somebody else's loop: no I/O, clock or thread in it, only messages in and out.

Here the wires are queues between threads; put your own sockets in their place.
"""

from queue import Queue
from threading import Thread

import numpy as np

from secagg import Bounded, Counts, Masking, Weight


def train(task: bytes, u: int) -> dict[str, object]:
    """What client u puts in, masked all of it: an update, its number of examples, its correct answers."""
    return {"update": np.full(4, 0.1 * (u + 1)), "weight": 10 * (u + 1), "correct": np.array([u])}


def be_client(u: int, scheme: Masking, hear: Queue[bytes], to_server: Queue[tuple[int, bytes]]) -> None:
    # begin client
    client = scheme.client(u, lambda task: train(task, u))
    to_server.put((u, client.start()))
    while not client.done:
        to_server.put((u, client.receive(hear.get())))
    # end client


def be_server(scheme: Masking, hear: Queue[tuple[int, bytes]], to_clients: dict[int, Queue[bytes]]) -> None:
    # begin server
    server = scheme.server(cohort=to_clients, task=b"train on round 1")
    while server.result is None:
        while server.waiting_for:  # or until your clock says that the round is over
            server.receive(*hear.get())  # from whom it is, the channel says
        for u, message in server.advance().items():
            to_clients[u].put(message)
    # end server
    print("sum of weights", server.result.sum["weight"][0], "correct", server.result.sum["correct"][0])
    print("weighted mean", server.result.mean["update"].round(3))


def main() -> None:
    vectors = {
        "update": Bounded(length=4, bound=1.0),
        "weight": Weight(maximum=100),
        "correct": Counts(length=1, maximum=100),
    }
    scheme = Masking.for_cohort(clients=3, vectors=vectors)
    print(scheme.explain())
    to_server: Queue[tuple[int, bytes]] = Queue()
    to_clients: dict[int, Queue[bytes]] = {u: Queue() for u in range(3)}
    for u, hear in to_clients.items():
        Thread(target=be_client, args=(u, scheme, hear, to_server), daemon=True).start()
    be_server(scheme, to_server, to_clients)


if __name__ == "__main__":
    main()
