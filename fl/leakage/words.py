"""Which words a model of text was trained on: rows of the embedding that moved, next words in the bias."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.labels import last_layer
from fl.leakage.views import Part, View

# Noise of one size in all numbers, in 200 draws of 1,000 rows of 32 normal ones: the longest row was at most
# 2.8 times the shortest, and the largest of 1,000 numbers 8.2 times those of the shortest.
ABOVE_ROW: Final = 3.0
ABOVE_NUMBER: Final = 9.0


def words(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """The words of texts: rows of the embedding's gradient that are not zero; next words by the last bias.

    Source: Melis et al., Exploiting Unintended Feature Leakage, IEEE S&P 2019, section 4.1.
    """
    return tuple(_of_part(part, knowledge) for part in view.parts)


def _of_part(part: Part, knowledge: Knowledge) -> Found:
    """Of candidates those of the one that leaves most rows as they were, as a true update does."""
    begun = time.process_time()
    each = [Matching(knowledge.at(part), update, len(part.members)) for update in part.updates]
    named, following = _named(min(each, key=lambda one: np.count_nonzero(_embedding(one).any(axis=1))))
    return Found(None, following, seconds=time.process_time() - begun, words=named)


def _named(matching: Matching) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(words, next words), ascending, the next ones among the first.

    Only the row of a word that is there gets a gradient, and only the bias of a next word one below zero: in
    the mean p_c - y_c, the model's probability less how often it came. Noise of one size in all numbers is
    known by the shortest row, which without noise has length zero.
    """
    rows = _embedding(matching)
    lengths = np.linalg.norm(rows, axis=1)
    noise = float(lengths.min())
    _, bias = last_layer(matching)
    assert bias is not None  # noqa: S101 - both models for text have one
    following = np.flatnonzero(bias.numpy() < -ABOVE_NUMBER * noise / np.sqrt(rows.shape[1]))
    return np.union1d(np.flatnonzero(lengths > ABOVE_ROW * noise), following), following


def _embedding(matching: Matching) -> NDArray[np.float64]:
    """(words, d): the gradient of the embedding. Raises: ConfigError for a model without one."""
    start, gradient = 0, matching.mean_gradient()
    of = {id(layer.weight) for layer in matching.model.modules() if isinstance(layer, nn.Embedding)}
    for parameter in matching.model.parameters():
        if id(parameter) in of:
            rows: NDArray[np.float64] = gradient[start : start + parameter.numel()].view_as(parameter).numpy()
            return rows
        start += parameter.numel()
    raise ConfigError(
        "words are read off the gradient of an embedding, and this model has none: --dataset text --model "
        "bag-of-words"
    )
