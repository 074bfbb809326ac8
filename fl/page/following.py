"""A run under way as a page that follows it: whole at first, then the part that may have changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape
from importlib import import_module
from typing import Final

import msgspec

from fl.page.live import Content, Making
from fl.page.render import TEMPLATES, render_run, shell
from fl.page.state import RunState
from fl.page.vega import bundle

HTML: Final = "text/html; charset=utf-8"


def check_installed() -> None:
    """Raises: ModuleNotFoundError where what draws a page is not there."""
    for module in ("jinja2", "vl_convert"):
        import_module(module)


def contents() -> Mapping[str, Making]:
    """Path -> what is there. It takes a second or two: before a run, not while it goes."""
    script = (TEMPLATES / "live.js").read_text(encoding="utf-8")
    return {"/": partial(_page, bundle(), script), "/run": _part, "/state.json": _json}


def news(state: RunState) -> str:
    """What is said aloud when it changes."""
    if state.status != "running":
        return f"Ended: {state.why}." if state.status == "ended" else f"Not followed any more: {state.why}."
    if not state.rounds:
        return ""
    last = state.rounds[-1]
    ended = f"Round {last.round} of {state.total} has ended"
    if last.abandoned:
        return f"{ended}, abandoned: {last.abandoned}."
    return f"{ended}." if last.accuracy is None else f"{ended}: accuracy {last.accuracy:.4f}."


def live(state: RunState) -> str:
    """The part that is replaced while the page stands."""
    said = f'data-status="{escape(state.status)}" data-news="{escape(news(state))}"'
    return f'<div id="live" {said}>\n{render_run(state)}</div>'


def _page(bundle: str, script: str, state: RunState) -> Content:
    page = shell("live.html", bundle, connect="'self'", script=script, state=state, live=live(state))
    return Content(HTML, page.encode(), "base-uri 'none'")  # the page says the rest of its policy itself


def _part(state: RunState) -> Content:
    return Content(HTML, live(state).encode())


def _json(state: RunState) -> Content:
    return Content("application/json", msgspec.json.encode(msgspec.structs.replace(state, pictures=())))
