"""A whole cohort on this machine: one process for each party, started by spawn, none left behind."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transport.keys import generate, write_private, write_public
from transport.roster import sign

_STOP_SECONDS = 5.0


def lay_out_keys(folder: Path, clients: int) -> tuple[Path, list[Path]]:
    """(the server's folder, each client's folder), under `folder`: every party with its keys and the roster.

    The roster key is made, used once and forgotten. For a cohort on one machine: where parties are apart,
    each makes its own key.
    """
    server, roster_key = generate("server"), generate("roster")
    keys = [generate("client", u) for u in range(clients)]
    roster = sign((key.public for key in keys), 1, roster_key)
    folders = [folder / "server", *(folder / f"client{u}" for u in range(clients))]
    for party in folders:
        party.mkdir(mode=0o700, parents=True)
        (party / "roster").write_bytes(roster)
        write_public(party / "roster.pub", roster_key.public)
    write_private(folders[0] / "server.key", server)
    for party, key in zip(folders[1:], keys, strict=True):
        write_private(party / "client.key", key)
        write_public(party / "server.pub", server.public)
    return folders[0], folders[1:]


class LocalProcesses:
    """Processes that end with this context, whatever ends it.

    Should this process be killed outright, a client finds its server gone and ends at its deadline.
    """

    def __init__(self) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self._processes: dict[str, multiprocessing.process.BaseProcess] = {}

    def start(self, name: str, target: Callable[..., object], *args: Any) -> None:
        """Run target(*args) in a new process. Both must be picklable, and hold no secret."""
        process = self._spawn.Process(target=_run, args=(name, target, args), name=name, daemon=True)
        process.start()
        self._processes[name] = process

    def wait_for(self, name: str) -> int | None:
        """The exit code of one process, once it has ended."""
        self._processes[name].join()
        return self._processes[name].exitcode

    def wait(self, seconds: float) -> dict[str, int | None]:
        """name -> exit code of each process, None where it still runs when the time is up."""
        for process in self._processes.values():
            process.join(seconds)
        return self.exit_codes

    @property
    def exit_codes(self) -> dict[str, int | None]:
        """name -> exit code, None for one that runs, minus the signal's number for one that was killed."""
        return {name: process.exitcode for name, process in self._processes.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join(_STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._processes.clear()


def _run(name: str, target: Callable[..., object], args: tuple[Any, ...]) -> None:
    # Ctrl-C reaches the whole group of processes: the one that started us decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        target(*args)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
