"""`secagg list`: the models, data sets, schemes and presets there are, with a line and the source of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import typer

from fl.cli.output import Output
from fl.mistyped import nearest
from secagg.schemes import SCHEMES

Entry = tuple[str, str]  # what it is, its source


def run(out: Output, what: str) -> None:
    """Print one of LISTS, as a table or as one JSON object an entry.

    Raises: BadParameter for any other list.
    """
    if what not in LISTS:
        raise typer.BadParameter(f"no list of {what}: there are {', '.join(LISTS)}{nearest(what, LISTS)}")
    printed(out, LISTS[what]())


def printed(out: Output, entries: Mapping[str, Entry]) -> None:
    """As a table, or as one JSON object an entry."""
    for name, (line, source) in entries.items():
        out.record({"name": name, "line": line, "source": source})
    out.table([(name, *entry) for name, entry in entries.items()], header=("name", "what it is", "source"))


def _models() -> dict[str, Entry]:
    from fl.models.architectures import MODELS

    return documented(MODELS)


def _data() -> dict[str, Entry]:
    from fl.data import DATASETS

    return documented(DATASETS)


def _presets() -> dict[str, Entry]:
    from fl.config.presets import PRESETS

    return {name: (preset.line, preset.source) for name, preset in PRESETS.items()}


LISTS: dict[str, Callable[[], dict[str, Entry]]] = {
    "models": _models,
    "data": _data,
    "schemes": lambda: documented(SCHEMES),
    "presets": _presets,
}


def documented(functions: Mapping[str, Callable[..., object]]) -> dict[str, Entry]:
    """The first line of each docstring, and its paragraph that begins with "Source: "."""
    entries = {}
    for name, function in functions.items():
        line, *paragraphs = (inspect.getdoc(function) or "").split("\n\n")
        source = next((text for text in paragraphs if text.startswith("Source: ")), "")
        entries[name] = (" ".join(line.split()), " ".join(source.removeprefix("Source: ").split()))
    return entries
