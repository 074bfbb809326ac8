"""What Vega makes of specifications: pictures, and the script that draws them in the page."""

from __future__ import annotations

import io
import json
import re
from typing import Final

from fl.page.plots import LIGHT, Spec

VEGA_LITE: Final = "6.4"
COLOURS: Final = 128  # of a PNG, edges between two among them


def painted(spec: Spec) -> Spec:
    """With the colours of the light page in the place of their names."""
    text = re.sub(r"var\(--(\w+)\)", lambda name: LIGHT[name[1]], json.dumps(spec))
    painted: Spec = json.loads(text)
    painted["config"]["background"] = LIGHT["paper"]
    return painted


def png(spec: Spec) -> bytes:
    """The plot as a picture, in twice the pixels of its size and in as few colours as it has."""
    import vl_convert
    from PIL import Image

    text = json.dumps(painted(spec))
    drawn = Image.open(io.BytesIO(vl_convert.vegalite_to_png(text, vl_version=VEGA_LITE, scale=2)))
    content = io.BytesIO()
    drawn.convert("RGB").quantize(COLOURS).save(content, "png", optimize=True)
    return content.getvalue()


def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which needs no network. It takes a second or two."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE))
