"""The page of a run under way: what is answered over HTTP, to whom, and what cannot hold it up."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl.config.section import ConfigError
from fl.page import live as module
from fl.page.following import contents, news
from fl.page.live import CONNECTIONS, Dashboard, Live, listen
from fl.page.state import OpenRound, RunState, Sums, TrainingRound

PATHS = ["/", "/run", "/state.json"]


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Served:
    live: Live
    port: int

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def send(self, raw: bytes) -> bytes:
        """Bytes as they are; what comes back until the other side closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(2**16), b""))


@pytest.fixture(autouse=True)
def _nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws is 1 MB, and takes seconds: test_following looks at drawn pages."""
    monkeypatch.setattr("fl.page.following.bundle", lambda: "")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Which waits for nobody to see the end."""
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)
    live = Live(RunState(name="mine", title="masking: a test", total=2))
    listening = listen(0)
    with Dashboard(listening, live, contents()):
        yield Served(live, listening.getsockname()[1])


def a_round(number: int, **fields: Any) -> TrainingRound:
    usual = {"loss": 1.0, "validation": None, "bytes_up": 1, "bytes_down": 1, "chosen": 3, "alive": 3}
    usual |= {"sums": 1, "sums_asked": 1, "seconds": 1.0, "abandoned": "", "accuracy": 0.5}
    return TrainingRound(round=number, **(usual | fields))


def test_the_page_its_part_and_the_state_are_there(served: Served) -> None:
    served.live.open_round = lambda: OpenRound(
        round="share-keys", done=1, total=3, answered=(2,), awaited=(0, 1)
    )
    served.live.state = served.live.state.after([a_round(1)])
    page, part, state = (served.ask(path) for path in PATHS)
    assert [each.status for each in (page, part, state)] == [200] * 3
    assert part.body in page.body
    assert b"masking: a test" in part.body
    told = json.loads(state.body)
    assert told["open"] == {"round": "share-keys", "done": 1, "total": 3, "answered": [2], "awaited": [0, 1]}
    assert told["rounds"][0]["accuracy"] == 0.5
    assert part.body.decode().count("Round 1 of 2 has ended: accuracy 0.5000.") == 1


def test_what_has_not_changed_is_not_sent_again(served: Served) -> None:
    first = served.ask("/run")
    same = served.ask("/run", If_None_Match=first.headers["ETag"])
    assert (same.status, same.body) == (304, b"")
    served.live.state = served.live.state.after([a_round(1)])
    other = served.ask("/run", If_None_Match=first.headers["ETag"])
    assert other.status == 200
    assert other.headers["ETag"] != first.headers["ETag"]
    assert served.ask("/run", "HEAD").headers["ETag"] == other.headers["ETag"]
    assert served.ask("/run", "HEAD").body == b""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LOCALHOST:1", "127.0.0.1:65000")),
        *(
            (host, 421)
            for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "localhost:")
        ),
        *((host, 421) for host in ("", "127.0.0.2", "localhost:123456", "user@localhost")),
    ],
)
def test_only_names_of_this_machine_are_answered(served: Served, host: str, status: int) -> None:
    """Against DNS rebinding. Through a tunnel it is asked for at another port."""
    assert served.ask("/state.json", Host=host).status == status


def test_without_one_name_nothing_is_answered(served: Served) -> None:
    for hosts in (b"", b"Host: localhost\r\nHost: localhost\r\n"):
        answer = served.send(b"GET /state.json HTTP/1.1\r\n" + hosts + b"\r\n")
        assert answer.startswith(b"HTTP/1.0 421 ")
        assert b"masking" not in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_it_can_be_read_and_nothing_else(served: Served, method: str) -> None:
    assert served.ask("/run", method).status == (501 if method == "BREW" else 405)


@pytest.mark.parametrize("path", ["/x", "/run/", "/../run", "/run?x", "http://localhost/run", "*", "/%72un"])
def test_there_are_three_paths(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


def test_every_answer_is_for_this_page_alone(served: Served) -> None:
    for answer in (
        *map(served.ask, PATHS),
        served.ask("/x"),
        served.ask("/run", "POST"),
        served.ask("/", Host="x"),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert not any(name.lower().startswith("access-control") for name in answer.headers)
    for path in PATHS:
        assert "frame-ancestors 'none'" in served.ask(path).headers["Content-Security-Policy"]


def test_it_listens_on_loopback_alone_and_a_port_is_taken_once() -> None:
    with listen(0) as listening:
        address, port = listening.getsockname()
        assert address == "127.0.0.1"
        with pytest.raises(
            ConfigError, match=f"--dashboard {port}: nothing can listen on 127.0.0.1:{port}"
        ) as none:
            listen(port)
        assert "choose another port, or 0 for a free one" in str(none.value)


BROKEN = [
    b"",
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"GET " + b"/" * 70_000,
]


@given(
    st.sampled_from(BROKEN)
    | st.binary(max_size=200)
    | st.binary(max_size=99).map(lambda some: b"GET " + some)
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_it_goes_on_and_tells_nothing(served: Served, raw: bytes) -> None:
    try:
        answer = served.send(raw)
    except ConnectionError:  # refused before all of it was read
        answer = b""
    assert b"masking: a test" not in answer
    assert b"Traceback" not in answer
    assert served.ask("/run").status == 200


def test_those_who_say_nothing_are_cut_off_when_others_come(served: Served) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3 * CONNECTIONS)]
    try:
        # While the threads of those that are cut off have not ended, others are turned away.
        for _ in range(1000):
            with suppress(ConnectionError):
                assert served.ask("/run").status == 200
                break
        else:
            pytest.fail("nobody is let in")
        silent[0].settimeout(60)
        assert silent[0].recv(1) == b""
    finally:
        for each in silent:
            each.close()


def test_whoever_is_slow_has_a_while_and_no_longer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a byte comes."""
    monkeypatch.setattr(module, "LIFE_SECONDS", 0.5)

    def drip() -> None:
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as slow:
            while not select.select([slow], [], [], 0.02)[0]:
                slow.sendall(b"G")
            assert slow.recv(1) == b""  # it has hung up, and said nothing
            raise ConnectionResetError

    with pytest.raises(ConnectionError):
        drip()
    assert served.ask("/run").status == 200


def test_what_goes_wrong_here_is_not_the_runs(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a state that cannot be made, nor one that cannot be looked at."""

    def broken(*args: Any) -> Any:
        raise RuntimeError("of the page")

    served.live.change(broken)
    assert (served.live.state.status, served.live.state.title) == ("unfinished", "masking: a test")
    assert "this page follows it no more" in served.live.state.why
    served.live.known = broken
    answer = served.ask("/run")
    assert answer.status == 500
    assert b"of the page" not in answer.body
    assert capfd.readouterr() == ("", "")


def test_what_the_sums_tell_is_reckoned_when_somebody_looks(served: Served) -> None:
    sums = Sums().and_of(frozenset({0, 1, 2})).and_of(frozenset({0, 1}))
    served.live.known = lambda: sums
    ledger = served.live.look().ledger
    assert ledger is not None
    assert (ledger.report.sessions, ledger.report.alike.clients) == (2, {2})
    assert served.live.look().ledger is ledger
    served.live.known = lambda: ledger  # as the run says it at its end
    assert served.live.look().ledger is ledger


def test_sums_that_would_take_long_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.page.state.CELLS", 5)
    few = Sums().and_of(frozenset({0, 1}))
    many = few.and_of(frozenset({0, 1, 2}))
    assert (len(few.sets), many.sets, many.told()) == (1, (), None)
    assert many.and_of(frozenset({0})).told() is None


def test_who_looks_is_let_see_the_end(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 600.0)  # else a busy machine could look too late
    live, listening, seen = Live(served.live.state), listen(0), list[str]()
    own = Served(live, listening.getsockname()[1])

    def look() -> None:
        while not seen or seen[-1] == "running":
            seen.append("ended" if b'data-status="ended"' in own.ask("/run").body else "running")

    with Dashboard(listening, live, contents()):
        assert own.ask("/run").status == 200
        looking = threading.Thread(target=look)
        looking.start()
        live.end("it came to its end")
    looking.join()
    assert seen[-1] == "ended"
    with pytest.raises(ConnectionError):
        own.ask("/run")


def test_who_has_looked_and_comes_no_more_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For long: this one would never end."""
    monkeypatch.setattr(module, "LINGER_SECONDS", 1.0)
    assert served.ask("/run").status == 200


def test_no_text_of_a_run_is_markup(served: Served) -> None:
    hostile = '</div><script>alert(1)</script>" data-status="ended'
    served.live.state = msgspec.structs.replace(served.live.state, title=hostile, status="ended", why=hostile)
    for path in ("/", "/run"):
        body = served.ask(path).body
        assert b"&lt;script&gt;alert(1)" in body
        assert b"<script>alert" not in body
        assert b'alert(1)</script>"' not in body
        assert body.count(b' data-status="ended"') == 2  # the part's, and in it the run's


def test_what_is_said_aloud_is_how_a_round_ended(served: Served) -> None:
    state = served.live.state
    assert news(state) == ""
    abandoned = state.after([a_round(1, accuracy=None, abandoned="1 left")])
    assert news(abandoned) == "Round 1 of 2 has ended, abandoned: 1 left."
    assert news(state.after([a_round(1, accuracy=None)])) == "Round 1 of 2 has ended."
    assert news(msgspec.structs.replace(state, status="ended", why="it came to its end")) == (
        "Ended: it came to its end."
    )
