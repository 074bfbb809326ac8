"""Something comes twice, or two come at once: at a live client and at a suspended one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg import Bounded, LocalProtocolError
from secagg.wire import Task, encode
from tests.play import TASK, rounding_seed
from tests.secagg.helpers import semi_honest

IDS = range(5)


def codes(*, again: bool) -> Any:
    """What client 0 encodes for a task, which comes again while it is worked on."""
    scheme, task = (
        semi_honest(IDS, {"": Bounded(length=50, bound=1.0, bits=8)}),
        encode(Task(bytes(32), TASK)),
    )

    def vectors(_: bytes) -> Any:
        if again:
            with pytest.raises(LocalProtocolError, match="this session is over"):
                client.receive(task)
        return np.linspace(-0.9, 0.9, 50)

    client = scheme.client(0, vectors, rounding_seed=rounding_seed(0))
    client.start()
    client.receive(task)
    return client._encoded[""].tolist()


def test_a_task_that_comes_again_while_it_is_worked_on_changes_nothing() -> None:
    """The vectors are rounded under the client's own seed, and not under none, which everybody knows."""
    assert codes(again=True) == codes(again=False)
