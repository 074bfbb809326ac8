"""Who listens on the wire: all that travels in a whole session, searched for what is the parties' alone."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from loopback import PATIENCE, Cable, Federation
from numpy.typing import NDArray

from secagg import Bounded, Masking, Plain, Policy, Recorded, Scheme, ServerView
from secagg.record import RecordedClient
from transport.keys import read_private

N, LENGTH, RUN = 3, 2_000, 8  # bytes in a row: in 10^6 of them chance has one of 10^5 with 10^-8
SCHEMES = {
    "masking": Masking.for_cohort(N, Bounded(length=LENGTH, bound=1.0), adversary="semi-honest"),
    "plain": Plain.for_cohort(N, Bounded(length=LENGTH, bound=1.0)),
}
ANY = Policy(schemes=frozenset(SCHEMES), adversary="semi-honest")
MODEL = np.random.default_rng(19).standard_normal(4_000).astype("<f4").tobytes()


def update(u: int) -> NDArray[np.float32]:
    return np.random.default_rng(u).uniform(-1, 1, LENGTH).astype(np.float32)


def runs(data: bytes) -> NDArray[np.uint64]:
    """Every run of 8 bytes, wherever it begins, but for zeros: ZMTP greets with some."""
    every = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), RUN)
    numbers = np.unique(np.ascontiguousarray(every).view(np.uint64))
    return numbers[numbers != 0]


def found(secrets: Mapping[str, bytes], in_what: Collection[bytes]) -> set[str]:
    """Which of the secrets have a run of bytes in any of these streams."""
    heard = np.unique(np.concatenate([runs(data) for data in in_what if len(data) >= RUN]))
    return {name for name, secret in secrets.items() if np.isin(runs(secret), heard).any()}


class Listener:
    """A wire for each client, and what passed on it, in either direction, in the pieces in which it came."""

    def __init__(self, endpoint: str, stack: ExitStack) -> None:
        self.heard: dict[int, list[bytes]] = {u: [] for u in range(N)}
        self.cables = {u: stack.enter_context(Cable(endpoint, self.heard[u].append)) for u in range(N)}

    @property
    def streams(self) -> list[bytes]:
        # Whole, since a run may lie across two pieces; and each, as both directions are mixed in the whole.
        whole = [b"".join(pieces) for pieces in self.heard.values()]
        return [*whole, *(piece for pieces in self.heard.values() for piece in pieces)]


def session(
    federation: Federation, scheme: Scheme, task: bytes
) -> tuple[list[bytes], ServerView, list[RecordedClient]]:
    """(all that was on the wire, what the server saw, what the clients saw)"""
    seen, clients = list[Recorded](), list[RecordedClient]()

    def recorded(server: object) -> Recorded:
        seen.append(Recorded(server))  # type: ignore[arg-type]
        return seen[0]

    def listening(client: object) -> RecordedClient:
        clients.append(RecordedClient(client))  # type: ignore[arg-type]
        return clients[-1]

    def contribute(u: int, endpoint: str) -> None:
        with federation.join(u, endpoint, policy=ANY) as peer:
            assert peer.contribute(lambda task: update(u), instrument=listening) is not None

    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(N))
        cohort = stack.enter_context(federation.serve())
        wire = Listener(cohort.endpoint, stack)
        gone = [threads.submit(contribute, u, cable.endpoint) for u, cable in wire.cables.items()]
        cohort.wait_for_clients(N, PATIENCE)
        total = cohort.aggregate(scheme, task, instrument=recorded)
        assert len(total.survivors) == N
        for each in gone:
            each.result()
    return wire.streams, seen[0].view, clients


@pytest.mark.parametrize("name", SCHEMES)
def test_on_the_wire_there_is_no_run_of_bytes_of_model_update_or_key(
    name: str, strangers: Federation
) -> None:
    task = os.urandom(16) + MODEL
    wire, server, clients = session(strangers, SCHEMES[name], task)
    said = [message for client in clients for message in (*client.view.sent, *client.view.received)]
    secrets = {"model": MODEL} | {f"update of {u}": update(u).tobytes() for u in range(N)}
    secrets |= {f"message {i}": message for i, message in enumerate(said) if len(message) >= 32}
    for file in (strangers.server / "server.key", *(own / "client.key" for own in strangers.clients)):
        key = read_private(file)
        secrets |= {
            f"{file.parent.name}: signing": key.signing.private_bytes_raw(),
            f"{file.parent.name}: curve": key.curve_secret,
        }
    assert sum(map(len, wire)) > 2 * N * len(task)  # it was all heard, whole and in pieces
    assert found(secrets, wire) == set()
    # The same search in what the server was told and told itself finds what a server of this scheme reads.
    told = [message for _, _, message in (*server.received, *server.sent)]
    reads = {"model"} | ({f"update of {u}" for u in range(N)} if name == "plain" else set())
    assert {secret for secret in found(secrets, told) if not secret.startswith("message")} == reads
