"""One hypothesis profile for the suite: the machines of CI are slow, and the laws do not mind. One thread for
each of its processes: pytest has one on every core, and more would wait for one another. What a shell may
say of colours, widths and warnings is not said to the tests; nor that Ctrl-C means nothing, as it says to
what it starts in the background, and what that starts.
"""

from __future__ import annotations

import os
import signal

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read when numpy or torch is imported

from collections.abc import Iterator
from multiprocessing.context import BaseContext

import pytest
from hypothesis import HealthCheck, settings

TORCH = ("fl.federation.server", "fl.federation.client")

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PYTHONWARNINGS"):
    os.environ.pop(name, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _torch_is_imported_once() -> Iterator[None]:
    """By the clean process that all others are forked from (transport/processes.py). The first LocalProcesses
    of a process says what that is to import: where it were that of a demo, each client of each later run
    would import torch anew, two seconds of a core each.
    """
    preload = BaseContext.set_forkserver_preload

    def with_torch(context: BaseContext, names: list[str]) -> None:
        preload(context, [*names, *TORCH])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseContext, "set_forkserver_preload", with_torch)
        yield
