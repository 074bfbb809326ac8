"""What a key has already done, kept so that neither a crash nor a server makes its client do it twice.

Two masked inputs under one context, with two sets of survivors, would give away a client by subtraction; so
would two sums of vectors that come out alike (secagg.alike); and many sums under a little noise each are as
one under none. These records are files of lines that are only added to, under a lock, synced before anything
depends on them.
"""

from __future__ import annotations

import base64
import fcntl
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from secagg import LocalProtocolError, RemoteProtocolError
from secagg.crypto import DIGEST_BYTES, KEY_BYTES
from transport.errors import TransportError
from transport.keys import sync_folder
from transport.records import of_the_key


class Journal:
    """Contexts, one in hex a line, for one client's key: `<key>.journal`, beside the key itself where `<key>`
    is a link.

    Security: a copy restored from a backup has forgotten what came after it; use a new key then.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = of_the_key(path)

    def once(self, context: bytes) -> None:
        """Record the context durably, before anything masked under it leaves.

        Raises: RemoteProtocolError if it stands here already; TransportError if the file cannot be kept.
        """

        def decide(lines: Sequence[bytes]) -> bytes:
            if not all(_CONTEXT.fullmatch(line) for line in lines):
                raise ValueError
            if context.hex().encode() in lines:
                raise RemoteProtocolError(
                    "the server asks again for a task this client has contributed to: a second masked "
                    "input would let it subtract the two sums"
                )
            return context.hex().encode()

        _add_to_the_key(self._path, decide, lambda line: _CONTEXT_CHARACTERS)


class SignedSets:
    """Sets of survivors that a party has signed of like sessions, a `secagg.alike.Record`: `<key>.signed`,
    sealed, one a line: its length in eight hex digits, and base64.

    Security: as of a `Journal`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = of_the_key(path)

    def __call__(self, decide: Callable[[Sequence[bytes]], bytes | None], /) -> None:
        """Raises: TransportError if the file is damaged or cannot be kept; what `decide` raises."""

        def decide_line(lines: Sequence[bytes]) -> bytes | None:
            if any(len(line) != _due(line) for line in lines):
                raise ValueError
            new = decide([base64.b64decode(line[_LENGTH:], validate=True) for line in lines])
            return None if new is None else _sized(base64.b64encode(new))

        _add_to_the_key(self._path, decide_line, _due)


class Spent:
    """What a client's key has told of its vectors, as Rényi divergences of one order: `<key>.spent`, one a
    line, with its order, behind its length in eight hex digits; both in hexadecimal, exact.

    Security: as of a `Journal`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = of_the_key(path)

    @property
    def order(self) -> float | None:
        """That of what is spent; None where nothing is. Raises: TransportError as `charge`."""
        found = list[float]()

        def look(lines: Sequence[bytes]) -> None:
            found.extend(order for order, _ in _costs(lines))

        _add_to_the_key(self._path, look, _due)
        return found[0] if found else None

    def check(self, order: float, cost: float, most: float) -> float:
        """What is left of `most` after this cost, which is not recorded. Raises: as `charge`."""
        left = [most]

        def decide(lines: Sequence[bytes]) -> None:
            left[0] = _left(lines, order, cost, most)

        _add_to_the_key(self._path, decide, _due)
        return left[0]

    def charge(self, order: float, cost: float, most: float) -> None:
        """Record the cost durably, before what it is the cost of leaves.

        Raises: RemoteProtocolError if all costs together would be above `most`; LocalProtocolError if those
        that stand here are of another order; TransportError if the file cannot be kept.
        """

        def decide(lines: Sequence[bytes]) -> bytes:
            _left(lines, order, cost, most)
            return _sized(f"{float(order).hex()} {float(cost).hex()}".encode())

        _add_to_the_key(self._path, decide, _due)


class Tickets:
    """A client's open suspended sessions, a `secagg.tickets.Record`: `<key>.tickets`, a folder. Of each
    session a file of its name: its key, then the steps that were answered, one a line behind its length in
    eight hex digits; all in hex. It goes when the session ends.

    Unlike the others it may be lost: without its key a session is over, and nothing besides.

    Security: whoever reads a file opens the tickets of its session. A copy restored from a backup has
    forgotten what was answered after it, and would answer again: delete it. Of an erased key a medium may
    keep a trace.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = of_the_key(folder)

    def begin(self, name: bytes, key: bytes) -> None:
        """As `secagg.tickets.Record` has it. Raises: TransportError if it cannot be kept or is damaged, as do
        the others.
        """

        def decide(lines: Sequence[bytes]) -> bytes:
            if lines:
                raise ValueError  # no name is drawn twice
            return _sized(key.hex().encode())

        try:
            if not self._folder.is_dir():
                self._folder.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self._folder.parent)
        except OSError as error:
            _refuse_to_forget(self._folder, error)
        self._add(name, decide, create=True)

    def key(self, name: bytes) -> bytes | None:
        """As `secagg.tickets.Record` has it."""
        found: list[bytes] = []

        def look(lines: Sequence[bytes]) -> None:
            found.extend(_hex(line[_LENGTH:], KEY_BYTES) for line in lines[:1])

        self._add(name, look)
        return found[0] if found else None

    def answered(self, name: bytes, step: int) -> bytes | None:
        """As `secagg.tickets.Record` has it."""
        found: list[bytes] = []

        def look(lines: Sequence[bytes]) -> None:
            found.extend(_of_step(lines, step))

        self._add(name, look)
        return found[0] if found else None

    def answer(self, name: bytes, step: int, digest: bytes) -> bytes | None:
        """As `secagg.tickets.Record` has it."""
        stands: list[bytes] = []

        def decide(lines: Sequence[bytes]) -> bytes | None:
            if not lines:
                return None
            stands.extend(found := _of_step(lines, step))
            if found:
                return None
            stands.append(digest)
            return _sized(f"{step:x} {digest.hex()}".encode())

        self._add(name, decide)
        return stands[0] if stands else None

    def end(self, name: bytes) -> None:
        """As `secagg.tickets.Record` has it; its bytes are overwritten first."""
        path = self._path(name)
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(bytes(os.fstat(file.fileno()).st_size))  # in its place, for what that is worth
                file.flush()
                os.fsync(file.fileno())
                file.truncate(0)  # for who waits for the lock
                path.unlink(missing_ok=True)
                sync_folder(self._folder)
        except FileNotFoundError:
            return
        except OSError as error:
            _refuse_to_forget(path, error)

    def _path(self, name: bytes) -> Path:
        return self._folder / name.hex()

    def _add(
        self, name: bytes, decide: Callable[[Sequence[bytes]], bytes | None], *, create: bool = False
    ) -> None:
        path = self._path(name)

        def decide_whole(lines: Sequence[bytes]) -> bytes | None:
            if any(len(line) != _due(line) for line in lines):
                raise ValueError
            return decide(lines)

        try:
            _add_line(path, decide_whole, _due, create=create)
        except ValueError:
            raise TransportError(
                f"{path} is damaged: what was answered in this suspended session is not known any more; "
                "delete the file, and the session is over"
            ) from None


def _of_step(lines: Sequence[bytes], step: int) -> list[bytes]:
    """What was answered in it. Raises: ValueError for what `Tickets` never wrote."""
    answers = [line[_LENGTH:].partition(b" ") for line in lines[1:]]
    found = {int(number, 16): _hex(answer, 2 * DIGEST_BYTES) for number, _, answer in answers}
    return [found[step]] if step in found else []


def _hex(line: bytes, length: int) -> bytes:
    raw = bytes.fromhex(line.decode("ascii"))
    if len(raw) != length:
        raise ValueError
    return raw


def _costs(lines: Sequence[bytes]) -> list[tuple[float, float]]:
    """(order, cost) of each line. Raises: ValueError for what `charge` never wrote."""
    if any(len(line) != _due(line) for line in lines):
        raise ValueError
    costs = []
    for line in lines:
        order, cost = map(float.fromhex, line[_LENGTH:].decode().split())
        if not (order > 1 and 0 <= cost < math.inf):  # a cost below 0 would give back what was spent
            raise ValueError
        costs.append((order, cost))
    return costs


def _left(lines: Sequence[bytes], order: float, cost: float, most: float) -> float:
    before = _costs(lines)
    if others := {at for at, _ in before} - {order}:
        raise LocalProtocolError(
            f"this client's budget was begun at order {min(others):g} and is counted at that alone: write "
            f"order = {min(others):g} into [privacy] of its policy"
        )
    spent = math.fsum(of_one for _, of_one in before)
    if not (cost >= 0 and spent + cost <= most):  # NaN is no cost
        # The server hears this. It knows what its session costs, and not what others have cost.
        raise RemoteProtocolError(
            f"this client's privacy budget allows no more: the session costs {cost:.4g} of Rényi divergence "
            f"of order {order:g}, and less is left"
        )
    return most - spent - cost


_CONTEXT_CHARACTERS = 2 * DIGEST_BYTES
_CONTEXT = re.compile(b"[0-9a-f]{%d}" % _CONTEXT_CHARACTERS)
_LENGTH = 8


def _sized(line: bytes) -> bytes:
    return b"%0*x" % (_LENGTH, len(line)) + line


def _due(line: bytes) -> int:
    """Characters that the line has, by its beginning, if it is whole."""
    return _LENGTH + int(line[:_LENGTH], 16) if len(line) >= _LENGTH else _LENGTH


def _add_to_the_key(
    path: Path, decide: Callable[[Sequence[bytes]], bytes | None], due: Callable[[bytes], int]
) -> None:
    """`_add_line`, where a key cannot go on without what stands there."""
    try:
        _add_line(path, decide, due)
    except (ValueError, OverflowError):  # the latter of a float beyond all floats
        raise TransportError(
            f"{path} is damaged: what this key has contributed to is not known any more; "
            "make a new key (secagg keys client) and have the roster changed"
        ) from None


def _add_line(
    path: Path,
    decide: Callable[[Sequence[bytes]], bytes | None],
    due: Callable[[bytes], int],
    *,
    create: bool = True,
) -> None:
    """Under one lock, add the line that `decide` gives of all that stand there, if any; all are durable on
    return.

    decide: raises ValueError for what it never gave. due: characters of a line, by its beginning. create: the
    file, if there is none; else `decide` is not asked then.

    Raises: ValueError, OverflowError if the file is damaged; TransportError if it cannot be kept.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0), 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # before it is read: two processes of a key decide in turn
            content = file.read()
            at = content.rfind(b"\n") + 1
            # What a crash left of a line: what it would have recorded never happened. With a character more
            # than the line has it is another damage.
            if len(content) - at > due(content[at:]):
                raise ValueError
            new = decide(content[:at].splitlines())
            if new is not None:
                file.truncate(at)  # or the rest of a torn line would become the beginning of this one
                file.write(new + b"\n")
                file.flush()
            # What stands there is depended on, too, and whoever wrote it may not have come to this.
            _sync(file.fileno(), at)
            # Always: whoever made the file may have crashed before its name was on the disk.
            sync_folder(path.parent)
    except OSError as error:
        if create or not isinstance(error, FileNotFoundError):
            _refuse_to_forget(path, error)


def _sync(descriptor: int, whole: int) -> None:
    """whole: bytes without the line that is new. After an error it is no longer known what of that is on the
    disk, and asked again the system may well say that all is.
    """
    try:
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, whole)
        raise


def _refuse_to_forget(path: Path, error: OSError) -> NoReturn:
    raise TransportError(
        f"{path}: {error.strerror}: without this record no input may leave; mend it and rejoin"
    ) from None
