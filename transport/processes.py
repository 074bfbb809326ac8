"""A whole cohort on this machine: one process for each party, with nothing of this one, none left behind."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transport.errors import TransportError
from transport.keys import generate, write_private, write_public
from transport.limits import open_files
from transport.roster import sign

STREAMS = (1, 2)  # stdout and stderr
SAFE_PATH = "PYTHONSAFEPATH"
_STOP_SECONDS = 5.0
_SOCKET_PATH, _SOCKET_NAME = 107, 40  # bytes


def lay_out_keys(folder: Path, clients: int, relays: int = 0) -> tuple[Path, list[Path]]:
    """(the server's folder, each client's and then each relay's), under `folder`: every party with its keys
    and the roster. clients, relays: how many of them, with ids from 0 on.

    The roster key is made, used once and forgotten. For a cohort on one machine: where parties are apart,
    each makes its own key.
    """
    server, roster_key = generate("server"), generate("roster")
    keys = [generate("client", u) for u in range(clients)] + [generate("relay", j) for j in range(relays)]
    roster = sign((key.public for key in keys), 1, roster_key)
    folders = [folder / "server", *(folder / f"{key.kind}{key.id}" for key in keys)]
    for party in folders:
        party.mkdir(mode=0o700, parents=True)
        (party / "roster").write_bytes(roster)
        write_public(party / "roster.pub", roster_key.public)
    write_private(folders[0] / "server.key", server)
    for party, key in zip(folders[1:], keys, strict=True):
        write_private(party / f"{key.kind}.key", key)
        write_public(party / "server.pub", server.public)
    return folders[0], folders[1:]


class LocalProcesses:
    """Processes that end with this context, whatever ends it; killed outright, it takes them along.

    A new process has nothing of this one but its arguments, environment and streams. On Linux it is forked
    from a clean process that has imported the modules called `preload` and does not import them again: those
    that the first LocalProcesses here names, in the environment of that moment. Elsewhere, where system
    libraries do not outlive a fork, it is spawned.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._context: ForkServerContext | SpawnContext
        if sys.platform == "linux":
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(list(preload))
        else:
            self._context = multiprocessing.get_context("spawn")
        self._processes: dict[str, multiprocessing.process.BaseProcess] = {}
        self._starter = ThreadPoolExecutor(1)

    def start(self, name: str, target: Callable[..., object], *args: Any) -> None:
        """Run target(*args) in a new process, by a name that no other has. Both must be picklable, and hold
        no secret.

        Raises: TransportError where it cannot be started.
        """
        number = len(self._processes) + 1
        # Two stay open for each, and a few more while one starts.
        open_files(3 * number, f"{number} process{'es' * (number != 1)}")
        # In a thread, which Ctrl-C does not interrupt: no process is left half started, or out of the list.
        self._starter.submit(self._start, name, target, args).result()

    def _start(self, name: str, target: Callable[..., object], args: tuple[Any, ...]) -> None:
        forked = isinstance(self._context, ForkServerContext)
        streams = [_Stream(stream) for stream in STREAMS if forked]  # a spawned one has them
        of_run = (name, target, args, dict(os.environ), streams)
        process = self._context.Process(target=_run, args=of_run, name=name, daemon=True)
        # Ctrl-C reaches the whole group of processes: the one that started us decides what happens. A new
        # one inherits this mask, and with it is deaf from its first instruction on.
        resource_tracker.ensure_running()  # first: starting it opens the mask again
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            if forked:
                _start_clean_process()
            process.start()
        except (EOFError, OSError) as error:
            raise TransportError(f"the process of {name} could not be started: {error}") from error
        self._processes[name] = process

    def wait_for(self, name: str) -> int | None:
        """The exit code of the process of this name, once it has ended."""
        self._processes[name].join()
        return self._processes[name].exitcode

    def wait(self, seconds: float | None = None) -> dict[str, int | None]:
        """name -> exit code of each process, None where it still runs when the time is up. seconds: None
        for as long as it takes.
        """
        end = None if seconds is None else time.monotonic() + seconds
        for process in self._processes.values():
            process.join(None if end is None else max(0.0, end - time.monotonic()))
        return self.exit_codes

    def as_they_end(self) -> Iterator[str]:
        """The name of each process, once it has ended: of all that have been started by now."""
        running = dict(self._processes)
        while running:
            ended = connection.wait([process.sentinel for process in running.values()])
            for name in [name for name, process in running.items() if process.sentinel in ended]:
                running.pop(name).join()
                yield name

    @property
    def exit_codes(self) -> dict[str, int | None]:
        """name -> exit code, None for one that runs, minus the signal's number for one that was killed."""
        return {name: process.exitcode for name, process in self._processes.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._starter.shutdown()  # first: a start that was interrupted is finished, and then in the list
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join(_STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._processes.clear()


def _start_clean_process() -> None:
    """Start the clean process where there is none. It imports nothing from the folder that it happens to
    stand in.
    """
    _make_room_for_sockets()
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[SAFE_PATH]
        if before is not None:
            os.environ[SAFE_PATH] = before


def _make_room_for_sockets() -> None:
    """multiprocessing has its sockets in the temporary folder, and a socket's path has 107 bytes at most."""
    if len(os.fsencode(tempfile.gettempdir())) + _SOCKET_NAME <= _SOCKET_PATH:
        return
    long, tempfile.tempdir = tempfile.tempdir, "/tmp"  # noqa: S108 - in it, a folder for this user alone
    try:
        util.get_temp_dir()  # made at the first call, and kept
    finally:
        tempfile.tempdir = long


@dataclass
class _Stream:
    """A stream of this process, which comes out as its number in the one that starts."""

    number: int

    def __reduce__(self) -> tuple[Callable[[], int], tuple[()]]:
        return DupFd(self.number).detach, ()


def _run(
    name: str,
    target: Callable[..., object],
    args: tuple[Any, ...],
    environment: dict[str, str],
    streams: Sequence[int],
) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # where others started the clean process
    os.environ.clear()
    os.environ.update(environment)
    away = [fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, 3) for stream in streams]  # they may be 1 or 2 here
    for stream in streams:
        os.close(stream)
    for stream, of_parent in zip(STREAMS, away, strict=False):
        os.dup2(of_parent, stream)
        os.close(of_parent)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        target(*args)
    except Exception as error:  # nobody is above to catch it: one line, as multiprocessing would print ten
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the process: sys.exit would end this thread, and leave the work going on
