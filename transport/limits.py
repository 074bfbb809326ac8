"""How many files this process may open: connections and processes are files."""

from __future__ import annotations

import resource

from transport.errors import TransportError

OTHERS = 40  # files of a process that has neither


def open_files(needed: int, what: str) -> int:
    """How many files may be open: from now on as many as the system lets this process have.

    Raises: TransportError if that is not so many as `what` needs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed + OTHERS:
        raise TransportError(
            f"{what} may need {needed + OTHERS} open files, and this process may have {hard}: allow more "
            "(ulimit -n), or take fewer clients"
        )
    # The router takes half, and infinity has none; 2^20 is what Linux has for it (fs.nr_open).
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard
