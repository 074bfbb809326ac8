"""The benchmarks of words and of classes run, small, and say what the attack and its controls found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.harness import Row
from benchmarks.leakage import classes, words
from benchmarks.leakage.words import BARE, SINGLE, SUM, TAP
from fl.data import DataError, Dataset
from fl.leakage.verdicts import FAILED, PROTECTS, ROUNDING
from tests.benchmarks.cases import shown

rng = np.random.default_rng(0)
X, Y = rng.integers(1, 200, (60, 8)), rng.integers(1, 200, 60)
TEXT = Dataset("text", X[:40], Y[:40], X[40:], Y[40:], 200, tuple(f"w{i}" for i in range(200)))


def test_what_is_read_of_a_session_names_its_words_beside_frequent_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words, "load", lambda name: TEXT)
    monkeypatch.setattr(words, "BITS", (16,))
    rows = [row for row in words.run_case("bag-of-words", 0, (1, 2), (2,)) if not isinstance(row, str)]
    assert [(row["clients"], row["read"]) for row in rows] == [
        *((1, read) for read in (SINGLE, BARE, TAP)),
        *((2, read) for read in (SUM, SINGLE, BARE, TAP)),
    ]
    assert all(
        (row["exact"], row["hits"], row["named"]) == (True, row["words"], row["words"]) for row in rows
    )
    assert all(row["found"] and row["frequent"] < row["hits"] for row in rows)
    shown(words, rows)
    of = {line[4]: line[6:] for line in words.table(rows).rows}
    assert (of[SUM][0], of[SUM][1], of[SUM][3:]) == ("100.0%", "100.0%", ("1 of 1", "leaks"))


def test_of_texts_that_are_not_there_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Dataset:
        raise DataError(f"no {name} here")

    monkeypatch.setattr(words, "load", load)
    with pytest.raises(NotImplementedError, match="no text here"):
        list(words.run_case("gru", 0, (1,), (1,)))


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({SUM, BARE, SINGLE}, "leaks"),
        ({BARE, SINGLE}, ROUNDING),
        ({SINGLE}, PROTECTS),
        (set(), FAILED),
    ],
)
def test_a_sum_is_named_beside_its_controls(found: set[str], word: str) -> None:
    head: Row = {"model": "gru", "clients": 2, "texts": 1, "bits": 8, "seed": 0}
    numbers = {"words": 9, "named": 0, "hits": 0, "frequent": 0, "exact": False}
    rows = [head | numbers | {"read": read, "found": read in found} for read in (SUM, SINGLE, BARE)]
    line = next(line for line in words.table(rows).rows if line[4] == SUM)
    assert (line[6], line[7], line[8], line[10]) == ("-", "0.0%", "-", word)


def test_classes_come_out_of_the_model_that_was_trained_and_not_of_its_first_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classes, "PROCESSED", (False,))
    monkeypatch.setattr(classes, "STEPS", 300)
    setup = replace(classes.SETUPS[0], images=100, rounds=3)
    rows = [row for row in classes.run_case(setup, 0) if not isinstance(row, str)]
    assert [(row["weights"], row["found"]) for row in rows] == [("all rounds", True), (classes.FIRST, False)]
    shown(classes, rows)
    (after, before) = classes.table(rows).rows
    assert (after[-1], before[-1], before[5]) == ("leaks", "", "-")
