"""`secagg list`: what there is to choose from, with a line and the source of each, and of rules and
attacks what each needs to see.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import typer

from fl.cli.output import Output
from fl.mistyped import nearest
from secagg.schemes import SCHEMES

Entry = tuple[str, str]  # what it is, its source
Needing = tuple[str, str, str]  # what it is, what it needs to see, its source


def run(out: Output, what: str) -> None:
    """Print one of LISTS, as a table or as one JSON object an entry.

    Raises: BadParameter for any other list.
    """
    if what not in LISTS:
        raise typer.BadParameter(f"no list of {what}: there are {', '.join(LISTS)}{nearest(what, LISTS)}")
    printed(out, LISTS[what](), {"needs": "it needs to see"} if what in NEEDING else {})


def printed(
    out: Output, entries: Mapping[str, tuple[str, ...]], more: Mapping[str, str] = MappingProxyType({})
) -> None:
    """As a table, or as one JSON object an entry. more: what stands between its line and its source, by name
    in JSON, with the column's title.
    """
    names = {"name": "name", "line": "what it is", **more, "source": "source"}
    rows = [(name, *entry) for name, entry in entries.items()]
    for row in rows:
        out.record(dict(zip(names, row, strict=True)))
    out.table(rows, header=tuple(names.values()))


def _models() -> dict[str, Entry]:
    from fl.models.architectures import MODELS

    return documented(MODELS)


def _data() -> dict[str, Entry]:
    from fl.data import DATASETS

    return documented(DATASETS)


def _presets() -> dict[str, Entry]:
    from fl.config.presets import PRESETS

    return {name: (preset.line, preset.source) for name, preset in PRESETS.items()}


def _rules() -> dict[str, Needing]:
    from fl.robust import RULES

    return needing(RULES)


def _attacks() -> dict[str, Needing]:
    from fl.poisoning import DATA, UPDATES

    return needing({**DATA, **UPDATES})


LISTS: dict[str, Callable[[], Mapping[str, tuple[str, ...]]]] = {
    "models": _models,
    "data": _data,
    "schemes": lambda: documented(SCHEMES),
    "presets": _presets,
    "rules": _rules,
    "attacks": _attacks,
}
NEEDING = ("rules", "attacks")
"""Of which of them each entry says what it needs to see."""


def documented(functions: Mapping[str, Callable[..., object]]) -> dict[str, Entry]:
    """The first paragraph of each docstring, and what follows "Source: "."""
    return {name: (said(function), said(function, "Source")) for name, function in functions.items()}


def needing(functions: Mapping[str, Callable[..., object]]) -> dict[str, Needing]:
    """The same, of the first sentence alone, and what follows "Needs: "."""
    return {
        name: (re.split(r"(?<=\.) (?=[A-Z])", line)[0], said(functions[name], "Needs"), source)
        for name, (line, source) in documented(functions).items()
    }


def said(function: Callable[..., object], word: str = "") -> str:
    """What follows this word of a docstring, at the beginning of a line, up to the next such word or the end
    of the paragraph; of no word the first paragraph.
    """
    first, _, rest = (inspect.getdoc(function) or "").partition("\n\n")
    if not word:
        return " ".join(first.split())
    found = re.search(rf"^{word}: (.*?)(?=\n\n|\n[A-Z]\w*: |\Z)", rest, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""
