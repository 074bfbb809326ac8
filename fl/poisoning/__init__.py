"""What a malicious client can do, as functions by name: of its data (`DATA`), and of what it sends of them
(`UPDATES`). `timing` says when. What the attacks are worth, and what stops them, is measured elsewhere.
"""

from __future__ import annotations

from fl.poisoning.data import DATA, Aim
from fl.poisoning.updates import UPDATES, Forge, Known

__all__ = ["DATA", "UPDATES", "Aim", "Forge", "Known"]
