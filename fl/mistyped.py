"""Words of which one may be chosen, as people read and mistype them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, known: Iterable[str]) -> str:
    """What whoever typed `word` may have meant, as the end of an error; nothing where nothing is near."""
    words, typed = list(known), str(word)
    close = difflib.get_close_matches(typed, words, n=1)
    close = close or [each for each in words if typed and each.startswith(typed)]
    return f"; did you mean {close[0]!r}?" if close else ""


def choices(known: Iterable[str]) -> str:
    """As a command line shows them: [a|b|c]."""
    return f"[{'|'.join(known)}]"
