"""Every attack by name. The first line of its docstring says what it does, the next where it is from."""

from __future__ import annotations

from fl.leakage.analytic import analytic
from fl.leakage.attack import Attack
from fl.leakage.face import face
from fl.leakage.history import history
from fl.leakage.imprint import imprint
from fl.leakage.inversion import cosine, inversion, sparse
from fl.leakage.labels import labels
from fl.leakage.learned import learned
from fl.leakage.peeling import peeling
from fl.leakage.words import words

ATTACKS: dict[str, Attack] = {
    "inversion": inversion,
    "sparse": sparse,
    "cosine": cosine,
    "history": history,
    "learned": learned,
    "analytic": analytic,
    "labels": labels,
    "peeling": peeling,
    "imprint": imprint,
    "words": words,
    "face": face,
}
