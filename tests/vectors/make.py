"""The vectors, written anew: `python -m tests.vectors.make`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.vectors.makers import choices, coding, primitives, private
from tests.vectors.makers.bad import bad
from tests.vectors.makers.ckks import sessions_of_ckks
from tests.vectors.makers.decoys import session_of_decoys
from tests.vectors.makers.framing import framing
from tests.vectors.makers.plans import plans
from tests.vectors.makers.server import server
from tests.vectors.makers.sessions import play
from tests.vectors.makers.signing import signatures
from tests.vectors.makers.split import sessions_of_split
from tests.vectors.makers.spoken import messages
from tests.vectors.replay import FOLDER

WIDTH = 110


def text(value: Any, indent: int = 0) -> str:
    """JSON in which whatever fits a line stands on one."""
    short = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(short) + indent <= WIDTH or not isinstance(value, dict | list):
        return short
    margin = " " * (indent + 1)
    if isinstance(value, dict):
        entries = [f"{json.dumps(k, ensure_ascii=False)}: {text(v, indent + 1)}" for k, v in value.items()]
    else:
        entries = [text(v, indent + 1) for v in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    return f"{left}\n{margin}" + f",\n{margin}".join(entries) + f"\n{' ' * indent}{right}"


def files() -> Iterator[tuple[str, str]]:
    """(name, content) of every file."""
    made = {
        **primitives.FILES,
        **coding.FILES,
        **private.FILES,
        **choices.FILES,
        "signatures": signatures,
        "messages": messages,
        "ckks": sessions_of_ckks,
        "decoys": session_of_decoys,
        "split": sessions_of_split,
        "transport": framing,
    }
    for name, make in made.items():
        yield f"{name}.json", text(make()) + "\n"
    records = {plan.name: play(plan) for plan in plans()}
    for name, record in records.items():
        yield f"sessions/{name}.json", text(record) + "\n"
    yield "bad.json", text(bad(records)) + "\n"
    yield "server.json", text(server(records)) + "\n"


if __name__ == "__main__":
    for name, content in files():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
