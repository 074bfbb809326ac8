"""What every result of a run with unsafe groups says of itself, wherever it stands: such a run is an
experiment, and nobody is to take its numbers for those of a protected one.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from secagg import Masking, Scheme

UNSAFE: Final = "unsafe groups"
FIELD: Final = "unsafe_groups"


def in_unsafe_groups(scheme: Scheme) -> bool:
    """Whether a session sums groups in which more may be corrupt than they withstand."""
    return isinstance(scheme, Masking) and scheme.groups is not UNSET and scheme.groups.unsafe


def marked(text: str, unsafe: bool) -> str:
    """For people: a line or a title, with the mark unless it says as much."""
    if not unsafe or not text or UNSAFE in text.lower():
        return text
    colon = ":" if text.endswith(":") else ""
    return f"{text.removesuffix(':')} ({UNSAFE}){colon}"


def fields(unsafe: bool) -> dict[str, bool]:
    """For programs: what stands beside the others; nothing of any other run."""
    return {FIELD: True} if unsafe else {}
