"""The server's memory is the sum and a few uploads, whatever the cohort."""

from __future__ import annotations

import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier

import numpy as np
from loopback import PATIENCE, Federation

from secagg import Bounded, Masking
from transport import Contribution
from transport.client import Progress
from transport.cohort import LocalProcesses

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
    with federation.serve() as cohort:
        pipe.send(cohort.endpoint)
        total = cohort.aggregate(scheme)
    error = float(np.abs(total.mean[""] - VECTOR).max())
    pipe.send((len(total.survivors), error <= total.error_bound[""], peak_bytes()))


def peak_of_a_server(folder: Path, clients: int) -> int:
    """Of a session of so many clients, each a thread of this process. All upload at once."""
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
        survivors, exact, peak = here.recv()
    assert (survivors, exact) == (clients, True)
    return peak


def test_forty_clients_need_hardly_more_of_the_server_than_five(tmp_path: Path) -> None:
    five, forty = peak_of_a_server(tmp_path / "5", 5), peak_of_a_server(tmp_path / "40", 40)
    print(f"server's peak: {five / 1e6:.0f} MB with 5 clients, {forty / 1e6:.0f} MB with 40")
    assert forty <= 1.3 * five
