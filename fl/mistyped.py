"""Words of which one may be chosen, as people read and mistype them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: object, known: Iterable[str]) -> str | None:
    """What whoever typed `word` may have meant; None where nothing is near."""
    words, typed = list(known), str(word)
    close = difflib.get_close_matches(typed, words, n=1)
    # difflib goes by both lengths: to it `fash` is not near `fashion-mnist`.
    return next(iter(close or [each for each in words if typed and each.startswith(typed)]), None)


def nearest(word: object, known: Iterable[str]) -> str:
    """The same as the end of an error; nothing where nothing is near."""
    close = closest(word, known)
    return f"; did you mean {close!r}?" if close is not None else ""


def choices(known: Iterable[str]) -> str:
    """The words as a command line shows them: [a|b|c]."""
    return f"[{'|'.join(known)}]"
