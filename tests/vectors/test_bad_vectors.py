"""The bad vectors are refused as they say, and the good input in the same places is not."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

import secagg
from secagg import Policy, Roster, SecAggError
from secagg.schemes import accept
from tests.vectors import independent as i
from tests.vectors.makers.choices import roster_of
from tests.vectors.makers.plans import Json
from tests.vectors.replay import Session, act, each_bad, load, session

unhex = bytes.fromhex


def carried_out(case: Json) -> None:
    if "policy" in case:
        policy, bad = msgspec.convert(case["policy"], Policy), unhex(case["bytes"])
        accept(policy, bad + bytes(case.get("zeros", 0)), roster_for(case))
    else:
        act(session(case["session"]), case)


@cache
def _refusal(case: str) -> SecAggError:
    with pytest.raises(SecAggError) as caught:
        carried_out(json.loads(case))
    return caught.value


def refusal(case: Json) -> SecAggError:
    """What comes of a bad offer or a script: of each once, though two tests ask."""
    return _refusal(json.dumps(case))


def roster_for(case: Json) -> Roster | None:
    return roster_of(case["roster"]) if case["roster"] is not None else None


def assert_refused(case: Json) -> None:
    """With that error and no other."""
    error, refused = case["error"], refusal(case)
    assert type(refused).__name__ == error["class"], case["what"]
    assert error["words"] in str(refused), case["what"]
    assert sorted(getattr(refused, "culprits", [])) == error["culprits"], case["what"]


@pytest.mark.parametrize("case", load("bad")["offers"], ids=lambda case: case["what"])
def test_a_bad_offer_is_refused_and_the_good_one_accepted(case: Json) -> None:
    good = unhex(load("bad")["good_offers"][case["good"]])
    assert accept(msgspec.convert(case["policy"], Policy), good, roster_for(case)).offer() == good
    assert_refused(case)


APART = ("ckks", "decoys", "split")


def places() -> Iterator[Any]:
    for kind in ("malformed", "wrong"):
        for place in [*load("bad")[kind], *(p for scheme in APART for p in load(scheme).get(kind, []))]:
            yield pytest.param(
                place, id="-".join(str(place[k]) for k in ("session", "step", "to")) + f"-{kind}"
            )


@pytest.mark.parametrize("place", list(places()))
def test_bad_messages_are_refused_and_the_good_one_in_their_place_accepted(place: Json) -> None:
    used = session(place["session"])
    act(used, {**place, "what": "the good one", "script": [{"message": place["step"]}]})
    for case in each_bad(place):
        assert_refused(case)


SCRIPTS = [*load("bad")["scripts"], *load("ckks")["scripts"], *load("split")["scripts"]]


@pytest.mark.parametrize("case", SCRIPTS, ids=lambda case: f"{case['session']}-{case['what']}")
def test_a_bad_script_ends_in_its_error(case: Json) -> None:
    assert_refused(case)


@pytest.mark.parametrize("case", load("ckks")["caught"], ids=lambda case: case["what"])
def test_who_releases_another_sum_is_caught_and_the_sum_is_right(case: Json) -> None:
    used = session(case["session"])
    server, _ = act(used, case)
    assert sorted(server.caught) == case["caught"]
    right, _ = act(used, {**case, "script": [*_as_recorded(case["script"]), {"close": "decrypt"}]})
    assert right.caught == {}
    assert server.result.sum[""].tolist() == right.result.sum[""].tolist()


def _as_recorded(script: list[Json]) -> Iterator[Json]:
    """The script with each lie replaced by the message that stands in its place."""
    first = next(action["message"] for action in script if "message" in action)
    first -= next(n for n, action in enumerate(script) if "message" in action)
    return ({"message": first + n} for n, action in enumerate(script) if "close" not in action)


@pytest.mark.parametrize(
    "case", load("bad")["left_out"], ids=lambda case: f"{case['session']}-{case['what']}"
)
def test_a_share_that_cannot_be_used_is_left_out(case: Json) -> None:
    used = session(case["session"])
    party, answer = act(used, case)
    if case["to"] == "server":
        assert sorted(party.unopened) == [tuple(pair) for pair in case["unopened"]]
        assert sorted(party.result.survivors) == used.record["result"]["survivors"]
        assert {n: c.tolist() for n, c in party.result.codes.items()} == used.record["result"]["codes"]
    else:
        assert answer is not None
        assert answer.hex() == case["answer"] != used.messages[used_step(used, case)]["bytes"]


def used_step(used: Session, case: Json) -> int:
    """The number of the client's own unmasking."""
    return next(
        n for n, m in enumerate(used.messages) if (m["round"], m["from"]) == ("unmasking", case["to"])
    )


def test_what_is_malformed_is_so_without_this_package() -> None:
    for place in load("bad")["malformed"]:
        good = session(place["session"]).messages[place["step"]]["bytes"]
        name = place["bad"][0][0].partition(":")[0]
        i.message(name, unhex(good))
        for _, data, _ in place["bad"]:
            with pytest.raises(i.MalformedError):
                i.message(name, unhex(data))


NO_VECTOR = {
    # A sparse graph small enough for a file leaves every client its t holders, whoever of the d is lost.
    "clients are left to hold this one's shares",
    "the vectors have other sizes than the session's",  # the scheme `plain`
    "is beyond its bound of",  # the same
    "the server sums by batches a cohort of",  # the vectors' rosters list n clients
    "the server asks for a sum too near",  # section 9.1: of a client's own record, as the journal is
    "the server cuts the cohort otherwise than before",  # the same
    "the server asks again what this client has answered",  # section 9.2: of the record of its tickets
    "this step of the session has been answered",  # the same
}


def patterns() -> Iterator[str]:
    """What the package says when it refuses something, as regular expressions."""

    def pattern(node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(pattern(value) for value in node.values)
        return re.escape(str(node.value)) if isinstance(node, ast.Constant) else ".*"

    for path in Path(secagg.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and ast.unparse(node).startswith("raise RemoteProtocolError("):
                assert isinstance(node.exc, ast.Call)
                yield pattern(node.exc.args[0])


def test_every_refusal_of_the_package_has_a_vector() -> None:
    vectors, wrong = load("bad"), [place for scheme in APART for place in load(scheme)["wrong"]]
    cases = [*SCRIPTS, *vectors["offers"]]
    for place in (*vectors["malformed"], *vectors["wrong"], *wrong):
        cases += each_bad(place)
    said = "\n".join(str(refusal(case)) for case in cases)
    missing = [text for text in patterns() if not re.search(text, said)]
    assert len(missing) == len(NO_VECTOR)
    for words in NO_VECTOR:
        assert any(words in text.replace("\\", "") for text in missing)
