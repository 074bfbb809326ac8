"""The same script is played against either server."""

from __future__ import annotations

import pytest

from secagg import Masking
from tests.secagg.helpers import FIVE


@pytest.fixture(params=FIVE, scope="session")
def five(request: pytest.FixtureRequest) -> Masking:
    """Five clients, threshold three."""
    return FIVE[request.param]
