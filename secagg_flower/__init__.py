"""Secure aggregation for Flower: an import and a line on each side.

In the ServerApp:  strategy.start(grid=SecureGrid(grid, bound=4.0, strategy=strategy), ...)
In the ClientApp:  app = ClientApp(mods=[secure_mod()])

The server then learns the weighted mean of the arrays and metrics that clients train, and of no single client
its arrays, its metrics or its number of examples; README.md says against whom, and what stays as it was.
"""

from secagg import LocalProtocolError

try:
    import flwr  # noqa: F401
except ModuleNotFoundError:
    raise LocalProtocolError("secagg_flower needs Flower: pip install 'secagg[flower]'") from None

from secagg_flower.grid import Round, SecureGrid
from secagg_flower.mod import secure_mod

__all__ = ["Round", "SecureGrid", "secure_mod"]
