"""Cases on the cores: one after the other in this process, or one a core in processes of one thread."""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from benchmarks.begun import Row
from transport.processes import LocalProcesses

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Say = Callable[[str, str], None]
"""(case, what it is at)"""


Outcomes = Generator[tuple["Case", list[Row]], None, None]


@dataclass(frozen=True)
class Case:
    """name: unlike every other's of its benchmark, for by it a run that goes on knows what it has. work:
    gives a row, or several with texts between them of what it is at; picklable where cases run side by side.
    """

    name: str
    work: Callable[[], Row | Iterable[Row | str]]

    def rows(self, say: Say) -> list[Row]:
        say(self.name, "")
        given, rows = self.work(), list[Row]()
        for each in [given] if isinstance(given, dict) else given:
            if isinstance(each, str):
                say(self.name, each)
            else:
                rows.append(each)
        return rows


def cores() -> list[int]:
    """Those that this process may use; numbers that mean nothing where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def finished(cases: Sequence[Case], at_once: int, say: Say) -> Outcomes:
    """Each case with its rows, as they are done; the next begins when the caller asks for more.

    at_once: of 1, they run here, one after the other; else so many processes run one each, on a core and in a
    thread of its own. Raises: what a case raises here; from a process, NotImplementedError and
    ModuleNotFoundError as they are, and RuntimeError for all others.
    """
    if at_once == 1:
        yield from ((case, case.rows(say)) for case in cases)
        return
    waiting, busy = deque(cases), dict[Connection, Case]()
    with LocalProcesses(preload=(__name__,)) as processes:
        for number in range(min(at_once, len(cases))):
            here, there = Pipe()
            with _one_thread():
                processes.start(f"worker {number}", work, number, there)
            there.close()  # so that the pipe ends with the process, and `_received` hears of it
            busy[here] = waiting.popleft()
            here.send(busy[here])
        while busy:
            for pipe in [each for each in wait(list(busy)) if isinstance(each, Connection)]:
                case = busy[pipe]
                what = _received(pipe, case)
                if isinstance(what, str):
                    say(case.name, what)
                    continue
                yield case, what
                del busy[pipe]
                if waiting:
                    busy[pipe] = waiting.popleft()
                    pipe.send(busy[pipe])


def _received(pipe: Connection, case: Case) -> str | list[Row]:
    """A text, or the rows."""
    try:
        what = pipe.recv()
    except EOFError:
        raise RuntimeError(f"the process of {case.name} has ended in the midst of it") from None
    if isinstance(what, Exception):
        raise what
    return what  # type: ignore[no-any-return]


def work(number: int, pipe: Connection) -> None:
    """The body of a process: cases from the pipe, until nobody is there to send one."""
    if hasattr(os, "sched_setaffinity"):  # what counts cores, as the pool of clients does, finds one
        os.sched_setaffinity(0, {cores()[number % len(cores())]})
    while True:
        try:
            case: Case = pipe.recv()  # its module is imported now, when the environment is this process's
        except EOFError:
            return
        pipe.send(outcome(case, lambda name, what: pipe.send(what)))


def outcome(case: Case, say: Say) -> list[Row] | Exception:
    """A case's rows, or its error as one that can be pickled."""
    try:
        return case.rows(say)
    except (NotImplementedError, ModuleNotFoundError) as error:
        return error
    except Exception as error:  # of whatever kind: many cannot be pickled, and the parent waits for something
        said = "".join(traceback.format_exception_only(error)).strip()
        return RuntimeError(f"{case.name}: {said}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """In what is started meanwhile: libraries read it when they are imported."""
    before: dict[str, Any] = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
