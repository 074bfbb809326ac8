from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Federation


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Five clients and their server. Nobody writes to the folders but what `join` remembers."""
    return Federation(tmp_path_factory.mktemp("federation"), 5)


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Three clients and a server that the others have never heard of."""
    return Federation(tmp_path_factory.mktemp("strangers"), 3)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """One for each client; the test ends when they have ended."""
    with ThreadPoolExecutor(64) as pool:
        yield pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
