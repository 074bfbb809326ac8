"""Where what a client remembers is kept. It belongs to the key, under whatever name that was given."""

from __future__ import annotations

import os
from pathlib import Path

from transport.errors import FileError, TransportError
from transport.keys import PublicKey

KINDS = (".seen", ".journal", ".signed", ".spent")


def of_the_key(record: str | Path) -> Path:
    """`<key>.journal` beside the file that `<key>` stands for, where that is a link."""
    record = Path(record)
    key = record.with_suffix("")  # the last suffix alone, `.journal`: the key's own, `.key`, stays
    return Path(f"{os.path.realpath(key)}{record.suffix}") if key.is_symlink() else record


def base_of(key: str | Path, owner: PublicKey, state: str | Path | None) -> Path:
    """What the names of a key's records begin with: the file of the key, links followed; in `state`, the
    client and its fingerprint, so that all copies of the key that are used with it have one memory.

    Raises: FileError where one would be left behind or forgotten, TransportError where none can be kept.

    Security: two copies of a key in two folders have two memories, unless both are used with one `state`.
    """
    key = Path(key)
    base = real = Path(os.path.realpath(key)) if key.is_symlink() else key
    if state is not None:
        base = Path(state) / f"{str(owner).replace(' ', '')}-{owner.fingerprint.replace(' ', '')}"
        if not base.parent.is_dir():
            raise FileError(
                f"the folder {state} for this key's records is not there: make it, once and for good: a new "
                "one has forgotten what this client has contributed to"
            )
    elif os.stat(real).st_nlink > 1:  # a symbolic link leads to the key; of hard links none is it
        raise FileError(
            f"{key} has other names (hard links), and each would have records of its own: delete them, or "
            "name one folder for the records, always the same (state=)"
        )
    _check_kept(base)
    for old in {key, real} - {base}:
        _check_left(old, base)
    return base


def _check_kept(base: Path) -> None:
    """Refuse before anybody is connected to, and before a model is trained in vain."""
    for path in (base.parent, *(Path(f"{base}{kind}") for kind in KINDS)):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)):
            raise TransportError(
                f"{path} cannot be written, and without its records no input of this client may leave: "
                "name a folder for them, always the same (state=)"
            )


def _check_left(old: Path, base: Path) -> None:
    """Refuse where a record lies under the key's old name and none under its new one: a fresh record would be
    made there without a word, and everything in the old one allowed once more.
    """
    for kind in KINDS:
        left, now = Path(f"{old}{kind}"), Path(f"{base}{kind}")
        if left.exists() and not now.exists():
            raise FileError(
                f"{left} is a record of this key, and {now} is not there: move it there, or what this client "
                "has contributed to would be forgotten"
            )
