"""Every scheme there is. One more is a folder of its own, and its name in `Offered`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from secagg.ckks import CKKS
from secagg.masking import Masking
from secagg.plain import Plain

Offered = Masking | CKKS | Plain
"""What a server's offer is decoded as."""

SCHEMES: Mapping[str, type[Offered]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Offered)}
