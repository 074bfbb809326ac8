"""The protocol inside somebody else's loop: no I/O, clock or thread in it, only messages in and out.

Here the wires are queues; put your own sockets in their place.
"""

from collections import deque

import numpy as np

from secagg import Bounded, Counts, Masking, TooFewClients, Weight

vectors = {
    "update": Bounded(length=4, bound=1.0),
    "weight": Weight(maximum=100),
    "correct": Counts(length=1, maximum=100),
}
scheme = Masking.for_cohort(clients=3, vectors=vectors)
print(scheme.explain())


def train(task: bytes, u: int) -> dict[str, object]:
    """What client u puts in, masked all of it: an update, its number of examples, its correct answers."""
    return {"update": np.full(4, 0.1 * (u + 1)), "weight": 10 * (u + 1), "correct": np.array([u])}


to_server: deque[tuple[int, bytes]] = deque()
clients = {u: scheme.client(u, lambda task, u=u: train(task, u)) for u in range(3)}
server = scheme.server(cohort=clients.keys(), task=b"train on round 1")

for u, client in clients.items():
    to_server.append((u, client.start()))
while server.result is None:
    while to_server:
        u, message = to_server.popleft()
        server.receive(u, message)  # u is who the channel says it is
    try:
        requests = server.advance()  # the caller's clock decides when a round is over
    except TooFewClients as error:
        raise SystemExit(str(error)) from None
    for u, message in requests.items():
        reply = clients[u].receive(message)
        if reply is not None:
            to_server.append((u, reply))

print("sum of weights", server.result.sum["weight"][0], "correct", server.result.sum["correct"][0])
print("weighted mean", server.result.mean["update"].round(3))
