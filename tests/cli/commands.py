"""How the tests run commands: as a user does, in a process group of which nothing may be left."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from fl.cli import main
from fl.cli.streams import bearing

SECAGG = str(Path(sys.executable).with_name("secagg"))
PATIENCE = 600.0  # nothing waits so long unless something is broken
WAITS = {"serve": ("--deadline", "900"), "join": ("--patience", "900")}  # for whom a busy machine starts late


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """What --json printed: every line is an object."""
        return [msgspec.json.decode(line, type=dict) for line in self.out.splitlines()]


class Command:
    """A command that runs, the leader of a process group."""

    running: ClassVar[set[Command]] = set()

    def __init__(self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [SECAGG, *args, *WAITS.get(args[0], ())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        self.running.add(self)

    def line_with(self, words: str) -> str:
        """The next line of stdout that holds the words."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if words in line:
                return line
        raise AssertionError(f"ended without a word of {words!r}: {self._process.communicate()}")

    def interrupt(self) -> None:
        """Ctrl-C, which reaches every process of the group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def terminate(self) -> None:
        """`kill`, which reaches the leader alone."""
        os.kill(self._process.pid, signal.SIGTERM)

    def end(self) -> Ran:
        """Wait for its end, and for that of every process that it has started."""
        try:
            out, err = self._process.communicate(timeout=PATIENCE)
            while left := members(self._process.pid):
                for process, line in left.items():
                    assert has_ended(process), line
            return Ran(self._process.returncode, out, err)
        finally:
            self.kill()

    def kill(self) -> None:
        """What is left of it; its streams are closed here, not whenever Python comes to it."""
        self.running.discard(self)
        with self._process:
            if members(self._process.pid):
                os.killpg(self._process.pid, signal.SIGKILL)


def members(group: int) -> dict[int, str]:
    """The processes of a group that have not ended, and their command lines."""
    fields = ["ps", "-eo", "pgid=,pid=,stat=,args="]
    listed = subprocess.run(fields, capture_output=True, text=True, check=True)
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    return {
        int(pid): args for pgid, pid, state, args in rows if int(pgid) == group and not state.startswith("Z")
    }


def has_ended(process: int) -> bool:
    """Once it has; whether it did before patience did."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], PATIENCE)[0])
    finally:
        os.close(watched)


def before(folder: Path) -> str:
    """A PYTHONPATH on which the folder comes first."""
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def secagg(*args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
    """Run a command to its end."""
    return Command(*args, env=env, cwd=cwd).end()


@contextmanager
def at_once(lines: Iterable[Sequence[str]]) -> Iterator[list[Future[int]]]:
    """Commands that run side by side, each in a thread of this process: a fraction of the time of processes.
    They share one pair of streams: Python's print() crashes where another thread puts something else in the
    place of sys.stdout meanwhile, as each command does for itself.
    """
    typed = [[*line, *WAITS.get(line[0], ())] for line in lines]
    with (
        bearing() as streams,
        pytest.MonkeyPatch.context() as patch,
        ThreadPoolExecutor(len(typed)) as threads,
    ):
        patch.setattr("fl.cli.bearing", lambda: nullcontext(streams))
        yield [threads.submit(main, line) for line in typed]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Ran]) -> tuple[Path, Ran]:
    """A command in a folder that all of xdist's workers share, run by whichever of them comes first."""
    base = factory.getbasetemp()
    base = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    base.mkdir(exist_ok=True)
    ended = base / "ended"
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ended.exists():
            ended.write_bytes(msgspec.json.encode(make(base)))
    return base, msgspec.json.decode(ended.read_bytes(), type=Ran)


def is_one_line(ran: Ran, code: int, *words: str) -> None:
    """The exit code, and one line on stderr that says what is wrong."""
    assert ran.code == code, ran
    (line,) = ran.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
