"""The page of a run under way, on this machine alone and to be read only: `--dashboard PORT`.

Security: it listens on loopback and answers GET and HEAD of three paths, whatever else is asked. A page of
another site that has this machine's browser ask is refused by the name it asks for (DNS rebinding) and can
read no answer (no CORS). What is answered is made of a `RunState`, which holds no secret. A client that is
slow or does not stop is cut off, and nothing that happens here reaches the thread of the run.
"""

from __future__ import annotations

import hashlib
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

import msgspec

from fl.config.section import ConfigError
from fl.page.state import OpenRound, RunState, Sums, Told

LOOPBACK: Final = "127.0.0.1"
OURS: Final = re.compile(r"(localhost|127\.0\.0\.1)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
"""The names under which a browser on this machine asks. The port may be that of a tunnel's other end."""
CONNECTIONS: Final = 16  # at a time: with one more the oldest is cut off
LIFE_SECONDS: Final = 30.0  # of a connection, which has one request
LINGER_SECONDS: Final = 3.0  # in which whoever looks is still told that the run has ended


class Live:
    """A run as it goes. The one thread that conducts it replaces `state`, as a whole; any thread looks.
    open_round: what is under way, and known: what is known of its sums, both for any thread to ask.
    """

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.open_round: Callable[[], OpenRound | None] = lambda: None
        self.known: Callable[[], Sums | Told] = Sums
        self._lock = threading.Lock()
        self._reckoned: tuple[Sums, Told | None] = Sums(), None

    def look(self) -> RunState:
        """What there is to show now."""
        state = self.state
        open_round = self.open_round() if state.status == "running" else None
        return msgspec.structs.replace(state, open=open_round, ledger=self._ledger(self.known()))

    def change(self, make: Callable[[RunState], RunState]) -> None:
        """A page is never worth a run: what goes wrong is said there, and nowhere else. That can be a mistake
        of ours alone, so nobody knows of what kind; hours of training are not to pay for it.
        """
        try:
            self.state = make(self.state)
        except Exception as error:
            why = f"this page follows it no more: {error!r}"
            self.state = msgspec.structs.replace(self.state, status="unfinished", why=why)

    def end(self, why: str) -> None:
        self.state = msgspec.structs.replace(self.state, status="ended", why=why)

    def _ledger(self, known: Sums | Told) -> Told | None:
        """Reckoned here, and not where the run is conducted: nobody has to look."""
        if isinstance(known, Told):
            return known
        with self._lock:
            if known is not self._reckoned[0]:
                self._reckoned = known, known.told()
            return self._reckoned[1]


# Over HTTP


def listen(port: int) -> socket.socket:
    """A socket on this port of loopback; 0 for a free one. Raises: ConfigError where it cannot be had."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=CONNECTIONS)
    except OSError as error:
        raise ConfigError(
            f"--dashboard {port}: nothing can listen on {LOOPBACK}:{port} ({error.strerror}): choose another "
            "port, or 0 for a free one"
        ) from error


@dataclass(frozen=True)
class Content:
    """What is answered. policy: of the browser, by Content-Security-Policy."""

    kind: str
    body: bytes
    policy: str = "default-src 'none'"

    @property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


Making = Callable[[RunState], Content]


class Dashboard:
    """Serves the page from threads of its own, from the beginning of a `with` block to its end."""

    def __init__(self, listening: socket.socket, live: Live, contents: Mapping[str, Making]) -> None:
        """contents: path -> what is there of a state."""
        self._live, self._contents, self._server = live, contents, _Server(listening, self._content)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._lock = threading.Lock()
        self._made: dict[str, tuple[RunState, Content]] = {}
        self._asked, self._seen_to_end = -math.inf, False  # by the clock

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *how: object) -> None:
        """A browser that looks is let see the end, for so long and no longer."""
        now = time.monotonic()
        looked = now - self._asked < LINGER_SECONDS
        while looked and not self._seen_to_end and time.monotonic() - now < LINGER_SECONDS:
            time.sleep(0.05)
        self._server.shutdown()
        self._server.server_close()

    def _content(self, path: str) -> Content | None:
        """None for a path that is none."""
        if path not in self._contents:
            return None
        state = self._live.look()
        with self._lock:
            made = self._made.get(path)
            if made is None or made[0] != state:
                made = self._made[path] = state, self._contents[path](state)
        self._asked, self._seen_to_end = time.monotonic(), state.status == "ended"
        return made[1]


class _Server(ThreadingHTTPServer):
    """A thread a connection, few of them, and none for long."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, content: Callable[[str], Content | None]) -> None:
        super().__init__((LOOPBACK, 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.server_address = listening, listening.getsockname()
        self.content = content
        self._open: dict[Any, float] = {}  # connection -> since when, the oldest first

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except OSError:  # of too many open files it would be asked again at once
            time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._open) >= 2 * CONNECTIONS:  # cut off, and their threads still at it
            self.shutdown_request(request)
            return
        if len(self._open) >= CONNECTIONS:
            _cut(next(iter(list(self._open))))
        self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        now = time.monotonic()
        for request, since in list(self._open.items()):
            if now - since > LIFE_SECONDS:
                _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing of it is for who conducts the run."""


def _cut(request: socket.socket) -> None:
    """Its thread reads or writes no more, and ends."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = LIFE_SECONDS

    def do_GET(self) -> None:
        if len(names := self.headers.get_all("Host", [])) != 1 or not OURS.fullmatch(names[0].strip()):
            self.send_error(
                HTTPStatus.MISDIRECTED_REQUEST, "asked for under another name than this machine's"
            )
            return
        try:
            content = self.server.content(self.path)
        except Exception:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        same = self.headers.get("If-None-Match") == content.tag
        self.send_response(HTTPStatus.NOT_MODIFIED if same else HTTPStatus.OK)
        self.send_header("ETag", content.tag)
        self.send_header("Content-Security-Policy", f"{content.policy}; frame-ancestors 'none'")
        if not same:
            self.send_header("Content-Type", content.kind)
            self.send_header("Content-Length", str(len(content.body)))
        self.end_headers()
        if not same and self.command == "GET":
            self.wfile.write(content.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        return "secagg"

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is the run's."""


HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer."""
