"""Who listens on the wire: all that travels in a whole session, searched for what is the parties' alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from loopback import PATIENCE, Cable, Federation
from numpy.typing import NDArray

from secagg import (
    CKKS,
    Among,
    Bounded,
    Decoys,
    Masking,
    Plain,
    Policy,
    Recorded,
    Roster,
    Scheme,
    ServerView,
    Split,
)
from secagg.record import RecordedClient
from transport.keys import read_private

N, RELAYS, LENGTH = 3, 2, 2_000
RUN = 8  # bytes in a row: in 10^7 of them chance has one of 10^7 with 10^-5
OF = Bounded(length=LENGTH, bound=1.0)
SCHEMES: dict[str, Callable[[Roster], Scheme]] = {
    "masking": lambda roster: Masking.for_cohort(N, OF, adversary="semi-honest"),
    "plain": lambda roster: Plain.for_cohort(N, OF),
    "split": lambda roster: Split.for_cohort(N, OF, relays=RELAYS, roster=roster),
    "ckks, kept": lambda roster: CKKS.for_cohort(N, OF, ending="keep", roster=roster),
    "ckks, released": lambda roster: CKKS.for_cohort(N, OF, ending="release", roster=roster),
    "decoys": lambda roster: Decoys.for_cohort(N, OF, candidates=2, roster=roster),
}
ANY = Policy(schemes=frozenset(name.partition(",")[0] for name in SCHEMES), adversary="semi-honest")
MODEL = np.random.default_rng(19).standard_normal(4_000).astype("<f4").tobytes()


def update(u: int) -> NDArray[np.float32]:
    return np.random.default_rng(u).uniform(-1, 1, LENGTH).astype(np.float32)


def decoy(u: int) -> NDArray[np.float32]:
    return update(N + u)


def runs(data: bytes) -> NDArray[np.uint64]:
    """Every run of 8 bytes, wherever it begins, but for those that are mostly zeros: ZMTP greets with some,
    and lengths of its frames have six or more, as small numbers of a message do.
    """
    every = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), RUN)
    told = every[np.count_nonzero(every, axis=1) >= RUN // 2]
    return np.unique(np.ascontiguousarray(told).view(np.uint64))


def found(secrets: Mapping[str, bytes], in_what: Collection[bytes]) -> set[str]:
    """Which of the secrets have a run of bytes in any of these streams."""
    heard = np.unique(np.concatenate([runs(data) for data in in_what if len(data) >= RUN]))

    def there(secret: bytes) -> bool:
        wanted = runs(secret)  # sorted, as what was heard: of many secrets faster than np.isin
        places = np.minimum(np.searchsorted(heard, wanted), len(heard) - 1)
        return bool((heard[places] == wanted).any())

    return {name for name, secret in secrets.items() if there(secret)}


class Listener:
    """A wire for each party, and what passed on it, in either direction, in the pieces in which it came."""

    def __init__(self, endpoint: str, parties: Collection[str], stack: ExitStack) -> None:
        self.heard: dict[str, list[bytes]] = {party: [] for party in parties}
        self.at = {
            party: stack.enter_context(Cable(endpoint, heard.append)).endpoint
            for party, heard in self.heard.items()
        }

    @property
    def streams(self) -> list[bytes]:
        # Whole, since a run may lie across two pieces; and each, as both directions are mixed in the whole.
        whole = [b"".join(pieces) for pieces in self.heard.values()]
        return [*whole, *(piece for pieces in self.heard.values() for piece in pieces)]


def session(
    federation: Federation, make: Callable[[Roster], Scheme], task: bytes
) -> tuple[list[bytes], ServerView, list[RecordedClient]]:
    """(all that was on the wire, what the server saw, what clients and relays saw)"""
    seen, parties = list[Recorded](), list[RecordedClient]()

    def recorded(server: object) -> Recorded:
        seen.append(Recorded(server))  # type: ignore[arg-type]
        return seen[0]

    def listening(party: object) -> RecordedClient:
        parties.append(RecordedClient(party))  # type: ignore[arg-type]
        return parties[-1]

    def contribute(u: int, endpoint: str) -> None:
        with federation.join(u, endpoint, policy=ANY) as peer:
            # Where no decoys are sent it is just the true one.
            among = Among(update(u), [decoy(u)])
            assert peer.contribute(lambda task: among, instrument=listening) is not None

    def add_shares(j: int, endpoint: str) -> None:
        with federation.join_as_relay(j, endpoint, ANY) as relay:
            assert relay.serve(instrument=listening) is not None

    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(N + RELAYS))
        cohort = stack.enter_context(federation.serve())
        scheme = make(cohort.roster.identities)
        relays = RELAYS if isinstance(scheme, Split) else 0
        bodies = {f"client {u}": (contribute, u) for u in range(N)}
        bodies |= {f"relay {j}": (add_shares, j) for j in range(relays)}
        wire = Listener(cohort.endpoint, bodies, stack)
        gone = [threads.submit(body, number, wire.at[party]) for party, (body, number) in bodies.items()]
        cohort.wait_for_clients(N, PATIENCE, relays=relays)
        total = cohort.aggregate(scheme, task, instrument=recorded)
        assert len(total.survivors) == N
        for each in gone:
            each.result()
    assert len(parties) == len(bodies)
    return wire.streams, seen[0].view, parties


@pytest.fixture(scope="module")
def with_relays(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return Federation(tmp_path_factory.mktemp("heard"), N, RELAYS)


@pytest.mark.parametrize("name", SCHEMES)
def test_on_the_wire_there_is_no_run_of_bytes_of_model_update_or_key(
    name: str, with_relays: Federation
) -> None:
    if name.startswith(("ckks", "decoys")):
        pytest.importorskip("tenseal")
    task = os.urandom(16) + MODEL
    wire, server, parties = session(with_relays, SCHEMES[name], task)
    said = {message for party in parties for message in (*party.view.sent, *party.view.received)}
    secrets = {"model": MODEL} | {f"update of {u}": update(u).tobytes() for u in range(N)}
    secrets |= {f"decoy of {u}": decoy(u).tobytes() for u in range(N)}
    secrets |= {f"message {i}": message for i, message in enumerate(said) if len(message) >= 32}
    folders = {**dict.fromkeys(with_relays.clients, "client"), **dict.fromkeys(with_relays.relays, "relay")}
    for own, kind in {with_relays.server: "server", **folders}.items():
        key = read_private(own / f"{kind}.key")
        secrets |= {
            f"{own.name}: signing": key.signing.private_bytes_raw(),
            f"{own.name}: curve": key.curve_secret,
        }
    assert sum(map(len, wire)) > 2 * N * len(task)  # it was all heard, whole and in pieces
    assert found(secrets, wire) == set()
    # The same search in what the server was told and told itself finds what a server of this scheme reads.
    told = [message for _, _, message in (*server.received, *server.sent)]
    reads = {"model"} | ({f"update of {u}" for u in range(N)} if name == "plain" else set())
    assert {secret for secret in found(secrets, told) if not secret.startswith("message")} == reads
