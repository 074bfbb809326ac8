"""Whose an image can be that came out of several sums."""

from __future__ import annotations

import numpy as np

from fl.leakage.attack import Found
from fl.leakage.grouping import grouped
from fl.leakage.views import Part, View
from tests.fl.leakage.helpers import IMAGES, LABELS


def found(*images: int, off: float = 0.0) -> Found:
    """With a place that nothing was found for."""
    x = np.concatenate([IMAGES[list(images)] + off, np.full((1, 1, 8, 8), 0.5)]).astype(np.float64)
    claimed = np.arange(len(x)) < len(images)
    return Found(x, np.append(LABELS[list(images)], 0), claimed=claimed)


def test_an_image_is_of_who_was_in_all_sums_that_it_came_out_of() -> None:
    sums = ({0, 1, 2}, {1, 2, 3}, {0, 2, 3})
    view = View(tuple(Part(frozenset(members), np.zeros((1, 1))) for members in sums))
    groups = grouped(view, (found(0, 1), found(0, off=0.01), found(2, 0, off=-0.01)))
    told = {group.sums: (set(group.clients), group.label) for group in groups}
    assert told == {(0, 1, 2): ({2}, 3), (0,): ({0, 1, 2}, 7), (2,): ({0, 2, 3}, 7)}
    (thrice,) = (group for group in groups if len(group.sums) == 3)
    np.testing.assert_allclose(thrice.image, IMAGES[0], atol=1e-6)


def test_images_that_look_alike_and_have_other_labels_are_two() -> None:
    view = View((Part(frozenset({0}), np.zeros((1, 1))), Part(frozenset({1}), np.zeros((1, 1)))))
    other = found(0)
    other.labels[0] += 1
    assert [group.clients for group in grouped(view, (found(0), other))] == [{0}, {1}]


def test_of_no_image_it_is_nobodys() -> None:
    view = View((Part(frozenset({0, 1}), np.zeros((1, 1))),))
    assert grouped(view, (found(),)) == ()
    assert grouped(View(()), ()) == ()
