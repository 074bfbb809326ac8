"""The server's memory is the sum and a few uploads, whatever the cohort; with relays, what all upload."""

from __future__ import annotations

import resource
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import zmq
from loopback import PATIENCE, Federation

from secagg import Bounded, Masking, Policy
from secagg.split import Split
from transport import Cohort, Contribution
from transport.frames import MAX_FRAME_BYTES, TRANSPORT_VERSION, Hello, encode
from transport.keys import read_private, read_public
from transport.processes import LocalProcesses
from transport.talk import Progress

LENGTH = 1_000_000
VECTOR = np.linspace(-1, 1, LENGTH, dtype=np.float32)


def peak_bytes() -> int:
    """The most memory this process has had resident.

    Linux counts in ru_maxrss what a process had before it became this program: its parent's, after vfork.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [
            line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")
        ]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def server_process(federation: Federation, clients: int, pipe: Connection) -> None:
    scheme = Masking.for_cohort(clients, Bounded(length=LENGTH, bound=1.0, bits=16))
    before = peak_bytes()
    with federation.serve() as cohort:
        pipe.send(cohort.endpoint)
        total = cohort.aggregate(scheme)
    error = float(np.abs(total.mean[""] - VECTOR).max())
    pipe.send((len(total.survivors), error <= total.error_bound[""], peak_bytes() - before))


def growth_of_a_server(folder: Path, clients: int) -> int:
    """In a session of so many clients, each a thread of this process. All upload at once."""
    federation = Federation(folder, clients)
    here, there = Pipe()
    ready = Barrier(clients)

    def progress_of(u: int) -> Progress:
        pieces = 0

        def progress(round: str, sent: int, size: int) -> None:
            nonlocal pieces
            pieces += round == "masked-input"
            if pieces == 1:
                ready.wait(PATIENCE)

        return progress

    def client(u: int, endpoint: str) -> Contribution | None:
        with federation.join(u, endpoint) as peer:
            return peer.contribute(lambda task: VECTOR, progress=progress_of(u))

    with LocalProcesses() as processes, ThreadPoolExecutor(clients) as threads:
        processes.start("server", server_process, federation, clients, there)
        there.close()
        endpoint = here.recv()
        for u in range(clients):
            threads.submit(client, u, endpoint)
        survivors, exact, grown = here.recv()
    assert (survivors, exact) == (clients, True)
    return int(grown)


def split_of(cohort: Cohort, clients: int) -> Split:
    vector, roster = Bounded(length=LENGTH, bound=1.0, bits=16), cohort.roster.identities
    return Split.for_cohort(clients, vector, relays=2, roster=roster)


def server_of_relays(federation: Federation, clients: int, pipe: Connection) -> None:
    before = peak_bytes()
    with federation.serve() as cohort:
        pipe.send(cohort.endpoint)
        scheme = split_of(cohort, clients)
        total = cohort.aggregate(scheme)
    pipe.send((len(total.survivors), clients * scheme.upload_bytes, peak_bytes() - before))


def relay_process(federation: Federation, j: int, endpoint: str, pipe: Connection) -> None:
    before = peak_bytes()
    with federation.join_as_relay(j, endpoint) as relay:
        relay.serve()
    pipe.send(peak_bytes() - before)


def idle_server(federation: Federation, pipe: Connection) -> None:
    """It has better to do than to read, until it is asked for its peak."""
    with federation.serve() as cohort:
        pipe.send((cohort.endpoint, peak_bytes()))
        pipe.recv()
        cohort.wait_for_clients(1, 0)
        pipe.send(peak_bytes())


class Flood:
    """A connection under a client's key, by somebody who wrote his own program, and whether it was broken."""

    def __init__(self, federation: Federation, u: int, endpoint: str, messages: list[list[bytes]]) -> None:
        own = federation.clients[u]
        key, server = read_private(own / "client.key", "client"), read_public(own / "server.pub", "server")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.curve_serverkey = server.curve
        self._socket.curve_secretkey, self._socket.curve_publickey = key.curve_secret, key.curve_public
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(endpoint)
        for parts in messages:
            self._socket.send_multipart(parts, copy=False)

    def broken(self, seconds: float = PATIENCE) -> bool:
        return bool(self._monitor.poll(seconds * 1000))

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        self._context.term()


HELLO = [encode(Hello(TRANSPORT_VERSION))]
FRAME = bytes(MAX_FRAME_BYTES - 100)  # CURVE adds to it


@pytest.mark.parametrize(
    ("connections", "messages"),
    [(20, [[FRAME]] * 50), (1, [[FRAME] * 2500])],
    ids=["many frames on many connections", "a message of 2500 parts"],
)
def test_what_one_client_can_make_a_server_hold_is_little(
    tmp_path: Path, connections: int, messages: list[list[bytes]]
) -> None:
    """Of 390 MB and of 980 MB, by a client of the roster, while the server does not read."""
    federation = Federation(tmp_path, 3)
    here, there = Pipe()
    with LocalProcesses() as processes:
        processes.start("server", idle_server, federation, there)
        there.close()
        endpoint, before = here.recv()
        floods = [Flood(federation, 0, endpoint, messages) for _ in range(connections)]
        assert all(flood.broken() for flood in floods)
        here.send("peak")
        grown = here.recv() - before
        for flood in floods:
            flood.close()
    print(f"the server grew by {grown / 1e6:.0f} MB")
    assert grown < 150e6


def greeting(federation: Federation, cohort: Cohort, u: int) -> Flood:
    """A connection of u's that has said hello, and was heard."""
    before, flood = cohort._router._routes.get(u), Flood(federation, u, cohort.endpoint, [HELLO])
    while cohort._router._routes.get(u) == before:
        cohort.wait_for_clients(4, 0.01)
    return flood


def test_of_the_connections_of_one_key_the_newest_is_kept(tmp_path: Path) -> None:
    federation, told = Federation(tmp_path, 3), list[str]()
    with federation.serve(tell=told.append) as cohort:
        floods = [greeting(federation, cohort, 0) for _ in range(3)]
        assert floods[0].broken()
        assert floods[1].broken()
        assert cohort.wait_for_clients(1, PATIENCE) == {0}
        for flood in floods:
            flood.close()
    assert len(told) == 1  # it could happen all the time


def test_many_that_replace_each_other_do_not_use_up_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.connections.RETIRE_SECONDS", 2 * PATIENCE)
    monkeypatch.setattr("transport.router.UNGREETED", 0)
    federation = Federation(tmp_path, 3)  # two for each
    with federation.serve() as cohort:
        floods = [greeting(federation, cohort, 0) for _ in range(9)]
        assert floods[0].broken()
        for flood in floods:
            flood.close()


def test_a_client_that_comes_back_leaves_alone_who_has_its_files_number_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.connections.RETIRE_SECONDS", 0.05)
    federation = Federation(tmp_path, 3)
    with federation.serve() as cohort:
        first = greeting(federation, cohort, 0)
        file = cohort._router._file
        first.close()
        while 0 in cohort.connected:
            cohort.wait_for_clients(4, 0.01)
        other = greeting(federation, cohort, 1)
        assert cohort._router._file == file  # the lowest that is free
        again, newest = greeting(federation, cohort, 0), greeting(federation, cohort, 0)
        assert again.broken()  # by now the other would be, too
        assert not other.broken(0)
        for flood in (other, again, newest):
            flood.close()


def test_strangers_that_connect_and_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    """600 of them, and 256 files; the server breaks off the oldest."""
    federation = Federation(tmp_path, 3)
    here, there = Pipe()
    with LocalProcesses() as processes, ExitStack() as strangers:
        processes.start("server", server_of_few_files, federation, there)
        there.close()
        host, port = here.recv().removeprefix("tcp://").rsplit(":", 1)
        for _ in range(600):
            strangers.enter_context(socket.create_connection((host, int(port))))
        with federation.join(0, f"tcp://{host}:{port}") as peer:
            assert peer.contribute(lambda task: []) is None  # it hears that the server closes
        assert here.recv() == {0}


def server_of_few_files(federation: Federation, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with federation.serve() as cohort:
        pipe.send(cohort.endpoint)
        connected = cohort.wait_for_clients(1, PATIENCE)
    pipe.send(connected)


def test_forty_clients_need_hardly_more_of_the_server_than_five(tmp_path: Path) -> None:
    """The uploads of the 35 others alone are 70 MB."""
    five, forty = growth_of_a_server(tmp_path / "5", 5), growth_of_a_server(tmp_path / "40", 40)
    print(f"the server grew by {five / 1e6:.0f} MB with 5 clients, by {forty / 1e6:.0f} MB with 40")
    assert forty - five < 20e6


def test_with_relays_a_server_holds_twice_what_all_upload_and_a_relay_thrice_its_part(tmp_path: Path) -> None:
    """All that is sealed passes through the server, in one message a relay."""
    clients, relays = 20, 2
    federation = Federation(tmp_path, clients, relays)
    here, there = Pipe()
    pipes = [Pipe() for _ in range(relays)]

    def client(u: int, endpoint: str) -> Contribution | None:
        with federation.join(u, endpoint, Policy(schemes=frozenset({"split"}))) as peer:
            return peer.contribute(lambda task: VECTOR)

    with LocalProcesses() as processes, ThreadPoolExecutor(clients) as threads:
        processes.start("server", server_of_relays, federation, clients, there)
        there.close()
        endpoint = here.recv()
        for j, (_, of_relay) in enumerate(pipes):
            processes.start(f"relay{j}", relay_process, federation, j, endpoint, of_relay)
        for u in range(clients):
            threads.submit(client, u, endpoint)
        survivors, uploaded, grown = here.recv()
        of_relays = [mine.recv() for mine, _ in pipes]
    print(f"of {uploaded / 1e6:.0f} MB the server grew by {grown / 1e6:.0f} MB, relays by {of_relays}")
    assert survivors == clients
    assert grown < 2 * uploaded + 40e6  # 120 MB of 52 were measured
    assert max(of_relays) < 3 * uploaded / relays + 30e6  # 84
