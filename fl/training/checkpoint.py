"""What a run goes on from, a file after each round: whole or not there, so that no moment is a bad one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.config.section import ConfigError
from fl.data.files import write_atomically

FILE = "checkpoint.bin"
VERSION = 1
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands after a round. run: as in the tasks. round: the last that was trained. parameters:
    (d,) float64. memory: of the server's optimiser and of its rule. rest: what belongs to whoever writes it,
    such as the lines of metrics and the sets of survivors.
    """

    run: bytes
    round: int
    parameters: NDArray[np.float64] = field(repr=False)
    memory: Mapping[str, NDArray[np.float64]] = field(repr=False)
    rest: bytes = field(default=b"", repr=False)


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint", forbid_unknown_fields=True):
    version: int
    run: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    round: Annotated[int, msgspec.Meta(ge=1)]
    parameters: bytes
    memory: dict[str, bytes]
    rest: bytes


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint: SHA-256 of what follows, and that."""
    stored = _Stored(
        VERSION,
        checkpoint.run,
        checkpoint.round,
        checkpoint.parameters.astype("<f8").tobytes(),
        {name: kept.astype("<f8").tobytes() for name, kept in checkpoint.memory.items()},
        checkpoint.rest,
    )
    content = msgspec.msgpack.encode(stored)
    write_atomically(folder / FILE, sha256(content).digest() + content)


def read_checkpoint(folder: Path) -> Checkpoint:
    """The folder's checkpoint. Raises: ConfigError where there is none, or it is damaged."""
    path = folder / FILE
    try:
        written = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} is not readable ({error.strerror}): a run leaves one after its first round"
        ) from error
    digest, content = written[:DIGEST_BYTES], written[DIGEST_BYTES:]
    # Against damage, and nobody's malice: who can write here can write the digest too.
    if sha256(content).digest() != digest:
        raise ConfigError(f"{path} is not as it was written: begin the run anew, with --force")
    try:
        stored = msgspec.msgpack.decode(content, type=_Stored)
        parameters = np.frombuffer(stored.parameters, "<f8")
        memory = {name: np.frombuffer(kept, "<f8") for name, kept in stored.memory.items()}
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}): begin the run anew, with --force") from error
    if stored.version != VERSION:
        raise ConfigError(f"{path} is of another version of this program: begin the run anew, with --force")
    return Checkpoint(stored.run, stored.round, parameters, memory, stored.rest)
